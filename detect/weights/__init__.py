"""The weights that ship with the package, as float16 safetensors with their metadata."""
