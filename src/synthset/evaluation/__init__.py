"""Evaluation of generated pairs and of segmenters: `metrics` compares single images and masks, `comparison` whole sets,
`segmentation_metrics` predictions on a test set."""
