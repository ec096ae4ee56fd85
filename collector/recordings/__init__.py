"""Files that hold recordings: what each of them is, and its messages and objects."""
