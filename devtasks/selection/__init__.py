"""What the selection of a model rests on: capabilities, requirements, and the evidence of earlier attempts."""
