"""Formats of documents, one file each: text, Markdown, HTML, Word and PDF as headings and passages."""
