"""What a working devtasks needs, looked at piece by piece, and how to mend what is missing. Nothing is changed."""
