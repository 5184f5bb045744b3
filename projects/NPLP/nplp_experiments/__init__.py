"""The paper's tables and figures as runs that share what they can, and what came of them."""
