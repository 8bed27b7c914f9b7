"""The admin pages of prompts."""
