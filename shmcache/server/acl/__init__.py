"""What a user may do: asked by the gateways, which know the users, and by the workers, which run their scripts."""
