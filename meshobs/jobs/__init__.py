"""What a command does, without a screen: the rooms meet here. Progress and remarks go to callables of the caller."""
