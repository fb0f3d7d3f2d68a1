"""What every engine promises (``engines.base``), as tests. A subclass says how to make a model for its engine."""

import abc
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from setpoint.core import DATATYPES, InvalidConfiguration, ModelError, SetpointError, TensorSpec, Variant
from setpoint.engines import EngineOptions, Executable, engine, load_executable

_MEMORY_ROUNDS = 12
_TASKS = """
import os, sys, time
from pathlib import Path
import numpy as np
from setpoint.core import Variant
from setpoint.engines import EngineOptions, load_executable
engine, artifact, entry, threads, rows = sys.argv[1:6]
table = np.load(rows)
before = len(os.listdir("/proc/self/task"))
variant = Variant("fp32", engine, Path(artifact).name, entry)
executable = load_executable(variant, Path(artifact).parent, EngineOptions(threads=int(threads)))
for _ in range(3):
    executable.run({name: table[name] for name in table.files})
counts = []
for _ in range(20):  # threads that only helped to load are on their way out
    counts.append(len(os.listdir("/proc/self/task")) - before)
    time.sleep(0.01)
print(min(counts))
"""


class EngineContract(abc.ABC):
    """Subclass, and define the engine, how its model is made, and what it answers."""

    engine: str
    entry = ""
    has_text = False
    absent_device: str | None = "rocm"
    """That no machine of ours has; None where whatever is asked for is handed on."""
    most_idle_threads = 0
    """Threads that the library keeps even where it is told to use one; 0 for most."""

    @abc.abstractmethod
    def make(self, folder: Path) -> Path:
        """Write a model whose answers ``expected`` knows; returns the artifact."""

    @abc.abstractmethod
    def inputs(self, rows: int) -> dict[str, np.ndarray]:
        """That many rows, the same each time."""

    @abc.abstractmethod
    def expected(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model answers, by another way than the engine."""

    @abc.abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, datatypes and shapes of the answers."""

    def wrong(self) -> dict[str, np.ndarray]:
        """Inputs that do not fit the model."""
        return {name: array[:, :-1] if array.ndim > 1 else array[None] for name, array in self.inputs(2).items()}

    def load(self, artifact: Path, threads: int = 1, device: str = "cpu") -> Executable:
        variant = Variant("fp32", self.engine, artifact.name, self.entry)
        return load_executable(variant, artifact.parent, EngineOptions(threads=threads, device=device))

    @pytest.fixture
    def artifact(self, tmp_path: Path) -> Path:
        return self.make(tmp_path)

    @pytest.fixture
    def executable(self, artifact: Path):
        executable = self.load(artifact)
        yield executable
        executable.close()

    def check(self, answers: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
        expected = self.expected(inputs)
        rows = len(next(iter(inputs.values())))
        assert set(answers) == {spec.name for spec in self.outputs()}
        for spec in self.outputs():
            answer = answers[spec.name]
            assert answer.dtype == DATATYPES[spec.datatype].dtype, spec.name
            assert answer.shape == (rows, *spec.shape[1:]), spec.name
            if answer.dtype.kind == "f":
                np.testing.assert_allclose(answer, expected[spec.name], rtol=1e-3, atol=1e-5)
            else:
                assert answer.tolist() == expected[spec.name].tolist()

    @pytest.mark.parametrize("rows", [1, 2, 7, 33])
    def test_answers_have_the_declared_names_shapes_and_types(self, executable: Executable, rows: int) -> None:
        inputs = self.inputs(rows)
        self.check(executable.run(inputs), inputs)

    def test_row_counts_may_change_from_run_to_run(self, executable: Executable) -> None:
        for rows in (5, 1, 9, 2, 9):
            inputs = self.inputs(rows)
            self.check(executable.run(inputs), inputs)

    def test_no_rows_are_answered_with_none_or_refused_and_break_nothing(self, executable: Executable) -> None:
        none = {name: array[:0] for name, array in self.inputs(2).items()}
        with contextlib.suppress(ModelError):
            self.check(executable.run(none), none)
        self.check(executable.run(self.inputs(3)), self.inputs(3))

    def test_answers_hold_nothing_of_the_inputs(self, executable: Executable) -> None:
        """Inputs are views of shared memory that the next batch overwrites."""
        inputs = {name: array.copy() for name, array in self.inputs(3).items()}
        answers = executable.run(inputs)
        kept = {name: array.tolist() for name, array in answers.items()}
        for array in inputs.values():
            array[:] = b"9" if array.dtype == object else 9
        executable.run(self.inputs(5))
        assert {name: array.tolist() for name, array in answers.items()} == kept

    def test_inputs_may_be_read_only_views(self, executable: Executable) -> None:
        inputs = {name: np.repeat(array, 2, axis=0)[::2] for name, array in self.inputs(4).items()}
        for array in inputs.values():
            array.flags.writeable = False
        self.check(executable.run(inputs), inputs)

    def test_text_that_is_no_utf8_breaks_nothing(self, executable: Executable) -> None:
        if not self.has_text:
            pytest.skip("this engine's models take no text")
        inputs = {name: array.copy() for name, array in self.inputs(2).items()}
        for array in inputs.values():
            if array.dtype == object:
                array[0] = b"\xff\xfe"
        with contextlib.suppress(SetpointError):
            executable.run(inputs)
        self.check(executable.run(self.inputs(2)), self.inputs(2))

    def test_errors_are_one_line_and_the_next_run_is_right(self, executable: Executable) -> None:
        with pytest.raises(ModelError) as caught:
            executable.run(self.wrong())
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        self.check(executable.run(self.inputs(3)), self.inputs(3))

    def test_it_says_on_which_device_it_is(self, artifact: Path) -> None:
        assert "cpu" in engine(self.engine).devices()
        executable = self.load(artifact)
        assert executable.device == "cpu"
        executable.close()

    def test_an_absent_device_is_refused_and_fallen_back_from_only_when_told(self, artifact: Path) -> None:
        if self.absent_device is None:
            pytest.skip("it hands on whatever is asked for")
        assert self.absent_device not in engine(self.engine).devices()
        with pytest.raises(InvalidConfiguration, match=f"here computes on .*cpu.*say so: {self.absent_device},cpu$"):
            self.load(artifact, device=self.absent_device)
        executable = self.load(artifact, device=f"{self.absent_device},cpu")
        assert executable.device == "cpu"
        self.check(executable.run(self.inputs(3)), self.inputs(3))
        executable.close()

    def test_what_is_no_device_is_refused(self, artifact: Path) -> None:
        with pytest.raises(InvalidConfiguration, match="device 'abacus': expected one of cpu, cuda,"):
            self.load(artifact, device="abacus")

    def test_two_models_run_in_two_threads(self, artifact: Path) -> None:
        """One executable is used by one thread at a time; several are not."""
        problems: list[BaseException] = []

        def work(executable: Executable, rows: int) -> None:
            try:
                for _ in range(20):
                    self.check(executable.run(self.inputs(rows)), self.inputs(rows))
            except BaseException as error:  # carried to the test's own thread
                problems.append(error)

        executables = [self.load(artifact) for _ in range(2)]
        threads = [threading.Thread(target=work, args=(one, 3 + one_of)) for one_of, one in enumerate(executables)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for executable in executables:
            executable.close()
        assert problems == []

    def test_memory_comes_back_when_models_are_closed(self, artifact: Path) -> None:
        def held_bytes() -> int:
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        for _ in range(3):  # what the library keeps for itself, it keeps once
            self.load_run_close(artifact)
        before = held_bytes()
        for _ in range(_MEMORY_ROUNDS):
            self.load_run_close(artifact)
        size_bytes = max(artifact.stat().st_size, 1 << 20)
        assert held_bytes() - before < _MEMORY_ROUNDS * size_bytes / 2

    def load_run_close(self, artifact: Path) -> None:
        executable = self.load(artifact)
        executable.run(self.inputs(4))
        assert executable.memory_bytes() >= 0
        executable.close()

    def test_one_thread_means_one_thread(self, artifact: Path, tmp_path: Path) -> None:
        assert self.new_threads(artifact, tmp_path, 1) <= self.most_idle_threads

    def new_threads(self, artifact: Path, tmp_path: Path, threads: int) -> int:
        rows = tmp_path / "rows.npz"
        np.savez(rows, **{name: array for name, array in self.inputs(64).items() if array.dtype != object})
        if any(array.dtype == object for array in self.inputs(1).values()):
            pytest.skip("text cannot be handed over in an .npz without pickles")
        arguments = [self.engine, str(artifact), self.entry, str(threads), str(rows)]
        command = [sys.executable, "-c", _TASKS, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # as a node starts its workers
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr
        return int(ended.stdout.split()[-1])

    def test_a_damaged_artifact_is_refused_in_a_line(self, artifact: Path) -> None:
        content = artifact.read_bytes()
        artifact.write_bytes(content[: len(content) // 2])
        variant = Variant("fp32", self.engine, artifact.name, self.entry)
        script = (
            "import sys; from pathlib import Path; from setpoint.core import *; from setpoint.engines import *;"
            "v = Variant('fp32', sys.argv[1], sys.argv[3], sys.argv[4])\n"
            "try:\n    load_executable(v, Path(sys.argv[2]), EngineOptions())\n"
            "except SetpointError as error:\n    assert '\\n' not in str(error); sys.exit(3)\n"
        )
        arguments = [self.engine, str(artifact.parent), variant.artifact, self.entry]
        ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=False)
        # Some libraries abort on some damage, which ends the worker and never the node; none may load it.
        assert ended.returncode == 3 or ended.returncode < 0, ended.stderr
