"""The page and the connection form, as a person sees them."""
