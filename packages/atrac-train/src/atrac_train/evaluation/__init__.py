"""How good a codec is: encoders and decoders of any kind over recordings, and what is measured of them."""
