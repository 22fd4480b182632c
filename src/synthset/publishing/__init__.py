"""Publishing on the Hugging Face Hub: `cards` writes README.md files, `hub` pushes folders, `repository` reads what a
repository holds before anything in it is replaced."""
