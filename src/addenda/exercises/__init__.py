"""Exercises, one file each: what a study set asks of a document, mined from its words or asked of a teacher."""
