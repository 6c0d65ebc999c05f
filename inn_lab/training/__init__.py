"""How a model is trained: objectives (losses and accuracies), the LightningModule, progress."""
