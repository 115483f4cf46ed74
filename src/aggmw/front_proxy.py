"""FrontProxy: the stages in their order around an application."""
