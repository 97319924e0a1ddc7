"""The residual stream: who reads its mean, who can write without it, and what that costs."""
