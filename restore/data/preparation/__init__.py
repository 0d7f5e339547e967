"""From what authors publish to what a training reads: dataset cards, downloads, inputs, pieces and checks."""
