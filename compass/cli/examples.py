"""What each command's help ends with: commands as people type them. A test reads every one back."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("compass demo my_demo",),
    "doctor": ("compass doctor", "compass doctor --dataset data/pdbbind"),
    "optimize": (
        "compass optimize --dataset data/pdbbind",
        "compass optimize prototyping production --dataset-size 19k --memory-limit 6GiB",
        "compass optimize --workload my_model.py:build --set stages.prototyping.target_s=10min --dry-run",
    ),
    "fit": (
        "compass fit my_model.py:Model",
        "compass fit my_model.py:Model --max-batch 64 --effective-batch 256 --precision bf16 --memory-limit 6GiB",
        "compass fit visnet --layers 6 --channels 128 --dataset data/pdbbind",
    ),
    "estimate": (
        "compass estimate --layers 6 --channels 128 --batch 16",
        "compass estimate --all --dataset-size 19k --csv models.csv",
    ),
    "train": (
        "compass train prototyping --dataset data/pdbbind --epochs 20",
        "compass train --resume --out runs/prototyping",
        "compass train production --dataset data/pdbbind --max-time 8h --logger csv --logger wandb",
    ),
    "predict": ("compass predict runs/prototyping/checkpoints/best.ckpt new_complexes.csv --csv predicted.csv",),
    "scan": ("compass scan data/pdbbind", "compass scan complexes.csv --report scan_report"),
    "show": ("compass show", "compass show production", "compass show --json --brief"),
    "export": (
        "compass export production --format yaml --out production.yaml",
        'eval "$(compass export prototyping --format env)"',
        "compass export production --format slurm --seeds 5 --out train.sbatch",
    ),
    "verify": ("compass verify", "compass verify production --update"),
    "explain": ("compass explain production",),
    "report": ("compass report", "compass report runs/prototyping", "compass report --markdown -"),
    "compare": ("compass compare old_profile.json hardware_profile.json",),
    "env": ("compass env", "compass env --json"),
    "config": ("compass config --out my_config.py",),
    "workload check": ("compass workload check my_model.py:build",),
    "fleet describe": ("compass fleet describe", "compass fleet describe --address auto --fleet fleet.yaml"),
    "fleet optimize": (
        "compass fleet optimize --dataset data/pdbbind",
        "compass fleet optimize --address ray://head:10001 --fleet fleet.yaml --kinds a100,t4",
    ),
    "fleet show": ("compass fleet show", "compass fleet show fleet --json"),
    "schema": ("compass schema",),
}


def epilog(command: str) -> str:
    """The examples of `command`, one to a line, for the end of its help."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
