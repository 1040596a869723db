"""How generators learn: one loop, the rectified-flow objective of SD3, and pictures as latents."""
