"""Label maps as latents that a denoiser makes: their code, and the way from noise to them."""
