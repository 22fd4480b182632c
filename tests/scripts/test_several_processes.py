"""Training and generation shared out: over processes, over machines, and by the SLURM script of docs/cluster.md."""

import hashlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import textwrap
import time
from functools import partial

import pytest
import torch
from testing_utils import runs
from testing_utils.runs import LAUNCH, ROOT, same, weights

pytestmark = pytest.mark.slow  # most of it is real runs

command, train = partial(runs.command, "train_paired.py"), partial(runs.train, "train_paired.py")
# Adam divides a gradient by its own size: this epsilon keeps rounding in a gradient that should be zero small
STEPS = {"max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 2, "adam_epsilon": 1e-3}
NODES = LAUNCH.replace("--main_process_port 0 ", "") + "multi_node.yaml --num_processes 2 --mixed_precision no"


@pytest.fixture(scope="module")
def two_processes(data, tmp_path_factory):
    """An uninterrupted run of two processes on one machine."""
    output_dir = tmp_path_factory.mktemp("runs") / "two"
    result = train(data, output_dir, launch=LAUNCH + "multi_cpu.yaml", **STEPS, batch_size=2)
    assert result.returncode == 0 and "2 x cpu" in result.stderr, result.stderr
    return output_dir


def free_port():
    """A port between 32768 and 59999 that nobody listens on."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port < 60000:
            return port


def on_two_machines(command):
    """Runs `command`, in which RANK and PORT are to be filled in, on two "machines"."""
    port = str(free_port())
    machines = [
        subprocess.Popen(
            [word.replace("RANK", rank).replace("PORT", port) for word in command],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in "01"
    ]
    errors = [machine.communicate(timeout=200)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(errors)
    return errors[0]


def learned(output_dir):
    """The bytes of everything that a run learned, by file, and what its validations found."""
    files = [
        *(f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "best-loss/unet", "best-divergence/unet")),
        *(f"checkpoint-4/{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "unet_ema")),
        *("model_index.json", "scheduler/scheduler_config.json", "checkpoint-4/optimizer.bin"),
        *("previews/step-000002.png", "previews/step-000004.png"),
    ]
    lines = (output_dir / "metrics.jsonl").read_text().splitlines()
    return {name: hashlib.sha256((output_dir / name).read_bytes()).hexdigest() for name in files}, [
        line for line in lines if "validation_loss" in line
    ]


def test_two_processes_and_accumulated_gradients_train_as_one_process(data, two_processes, tmp_path):
    runs = {
        "one": train(data, tmp_path / "one", launch=LAUNCH + "cpu.yaml", **STEPS),
        "accumulated": train(data, tmp_path / "accumulated", **STEPS, batch_size=2, gradient_accumulation_steps=2),
    }
    for name, result in runs.items():
        assert result.returncode == 0, f"{name}: {result.stderr}"
    for part in ("unet", "checkpoint-2/unet"):
        one = weights(tmp_path / "one", part)
        assert same(one, weights(two_processes, part), rtol=0, atol=1e-6)
        assert same(one, weights(tmp_path / "accumulated", part), rtol=0, atol=1e-6)


@pytest.fixture
def slurm(tmp_path):
    """A function that starts the script of docs/cluster.md as SLURM does for a job of two processes."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    commands = {
        "job": script,
        # srun starts a process for each task, and ends with the highest of their exit codes
        "srun": """#!/bin/bash
            while [[ $1 == --* ]]; do shift; done
            for task in 0 1; do
                SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
                tasks+=($!)
                echo $! >> tasks
            done
            for task in "${tasks[@]}"; do
                wait $task; status=$?
                ((status > highest)) && highest=$status
            done
            exit $((highest))""",
        "scontrol": """#!/bin/bash
            if [[ $1 == show ]]; then printf '127.0.0.1\\nanother\\n'; else echo "$@" >> requeued; fi""",
    }
    for name, text in commands.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def start(*arguments):
        # the script makes a port of the job's number
        settings = {"SLURM_JOB_ID": str(free_port() - 20000), "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
        path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **settings, "PATH": path}
        return subprocess.Popen(
            [tmp_path / "bin" / "job", *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )

    return start


def test_a_job_and_then_two_machines_train_and_generate_as_one(data, two_processes, slurm, tmp_path, monkeypatch):
    run = tmp_path / "run"
    job = slurm(*command(data, run, **{**STEPS, "max_train_steps": 2}, batch_size=2))
    log = job.communicate(timeout=200)[1]
    assert job.returncode == 0 and "steps 0 to 2" in log and "2 x cpu" in log, log
    assert not (tmp_path / "requeued").exists()
    machine = f"{NODES} --machine_rank RANK --main_process_ip 127.0.0.1 --main_process_port PORT"
    log = on_two_machines(command(data, run, machine, **STEPS, batch_size=2))
    assert "steps 2 to 4" in log and "2 x cpu" in log
    assert learned(run) == learned(two_processes)

    flags = {"model": run, "num_samples": 5, "num_inference_steps": 2, "samples_per_shard": 2}
    script = str(ROOT / "scripts" / "generate_dataset.py")
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    on_two_machines([sys.executable, *machine.split(), script, *arguments, f"--output_dir={tmp_path / 'together'}"])
    monkeypatch.setattr(sys, "argv", [script, *arguments, f"--output_dir={tmp_path / 'alone'}"])
    threads = torch.get_num_threads()
    runpy.run_path(script, run_name="__main__")
    torch.set_num_threads(threads)
    alone, together = (
        {path.name: path.read_bytes() for path in (tmp_path / folder / "data").iterdir()}
        for folder in ("alone", "together")
    )
    assert len(alone) == 3 and together == alone


def test_a_job_whose_time_is_up_saves_and_goes_back_into_the_queue(data, slurm, tmp_path):
    steps = {"max_train_steps": 1_000_000, "checkpointing_steps": 1_000_000, "logging_steps": 1}
    job = slurm(*command(data, tmp_path / "run", **steps, batch_size=2))
    log = tmp_path / "run" / "metrics.jsonl"
    while not (log.exists() and log.read_text()):
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.05)
    for task in (tmp_path / "tasks").read_text().split():  # as --signal=USR1@120 does
        os.kill(int(task), signal.SIGUSR1)
    errors = job.communicate(timeout=60)[1]
    assert job.returncode == 75, errors
    assert re.fullmatch(r"requeue \d+\n", (tmp_path / "requeued").read_text())
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert int(checkpoint.name.split("-")[1]) == len(log.read_text().splitlines())
    assert weights(checkpoint)


def test_all_processes_agree_to_stop_although_the_signal_comes_while_they_agree(tmp_path):
    """One process is asked to stop when it already waits for the other one's answer. Were the answers different, one
    would save and the other train on, and both would wait for ever."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent("""
            import os, signal, threading, time
            from accelerate import Accelerator
            from synthset import signals
            from synthset.training.processes import stop_requested

            accelerator = Accelerator(cpu=True)
            signals.install()
            with signals.deferred():
                if accelerator.is_main_process:
                    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                else:
                    time.sleep(2)
                answers = [stop_requested(accelerator) for _ in range(2)]
                print(f"answers {answers}\\n", end="", flush=True)  # one write
                os._exit(0)
        """)
    )
    done = subprocess.run(
        [sys.executable, *f"{LAUNCH}multi_cpu.yaml --num_processes 2".split(), str(worker)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["answers [False, True]"] * 2, done.stderr
