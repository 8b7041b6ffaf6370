"""Speed and memory of plugged bases beside the bare base and PEFT's LoRA; `python -m benchmarks.speed`."""
