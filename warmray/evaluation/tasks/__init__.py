"""Questions of every task: where they come from, how they are asked, and how replies are scored."""
