"""Where might objects be: Selective Search, MultiBox and other proposal generators."""
