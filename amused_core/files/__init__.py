"""Reading and writing files: whole or not at all, with errors that name the file."""
