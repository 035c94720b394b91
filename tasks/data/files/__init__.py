"""What lies in a folder of data: images, volumes, masks."""
