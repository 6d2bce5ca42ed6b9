"""`pointsman inbox`: what people are asked, and what they answer, over the HTTP API."""
