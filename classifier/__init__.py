"""What is in them: GoogLeNet, its weights, and the classifiers of regions and of whole images."""
