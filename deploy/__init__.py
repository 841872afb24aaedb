"""What starts the product: both servers in one process group, and the demo."""
