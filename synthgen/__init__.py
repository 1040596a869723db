"""Makes labelled training data for semantic segmentation: prompts, images, masks, shards."""
