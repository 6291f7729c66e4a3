"""EmoVCLIP's prompts: trained on whole frames of the labelled clips, on one frozen backbone."""
