"""Source conversations, and the original, warm and cold training sets built from them."""
