"""Teaching: from documents to study sets, and from these to modules that answer."""
