"""What labels of whole images add: their metrics, their pictures, how they are written down."""
