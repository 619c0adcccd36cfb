"""Runs the cells of chapters in Jupyter kernels and keeps what they gave, as notebooks."""

import asyncio
import hashlib
import os
import re
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from bookbinder import __version__
from bookbinder.kernels import ForkProvisioner
from bookbinder.source import ASSETS, TURNS, Book, BookError, Chapter, Code
from lazy_artist.data import cache_dir, write_whole

JOBS = 2  # kernels at a time: the chapters' own work is parallel


class _ThisInterpreter(KernelSpecManager):
    """Kernels are this very Python, whatever kernels are installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += ["--InlineBackend.figure_formats={'retina'}", "--HistoryManager.enabled=False"]
        argv += ["--IPKernelApp.log_level=50"]  # no complaints of a kernel that is interrupted
        return KernelSpec(argv=argv, language="python", display_name=kernel_name)


def execute(book: Book, chapters: list[Chapter]) -> dict[str, NotebookNode]:
    """Executes the chapters, `JOBS` at a time: those marked `after: earlier` when those without a
    mark are done, then those marked `after: those`, and those marked `after: all` last.

    Kernels are this interpreter, in the project's root, with this environment. Returns a notebook
    for each chapter's file: one code cell per piece of code. Raises BookError at the first cell
    that fails, naming chapter, line, label and error.
    """
    if os.name != "nt" and len(temporary := tempfile.gettempdir()) > 74:
        raise BookError(
            f"{temporary}: this folder for temporary files has a long name ({len(temporary)} "
            f"characters): too long for the sockets in it, which may have 107; set TMPDIR=/tmp"
        )
    notebooks = {chapter.file: empty_notebook(chapter) for chapter in chapters}
    # New processes are better for few kernels; macOS cannot safely fork what has loaded libraries.
    forked = sum(bool(c.code) for c in chapters) > JOBS + 1 and sys.platform == "linux"
    at_once = asyncio.Semaphore(JOBS)

    async def run(chapter: Chapter) -> None:
        async with at_once, _kernel(book, notebooks[chapter.file], forked) as client:
            for i, code in enumerate(chapter.code):
                await _execute_cell(chapter, code, client, i)
                bar.set_description(chapter.file, refresh=False)
                bar.update()

    async def run_all() -> None:
        for turn in range(len(TURNS)):
            async with asyncio.TaskGroup() as tasks:
                for chapter in chapters:
                    if chapter.code and chapter.turn == turn:
                        tasks.create_task(run(chapter))

    with tqdm(total=sum(len(c.code) for c in chapters), unit="cell", disable=None) as bar:
        try:
            asyncio.run(run_all())
        except ExceptionGroup as group:  # the first failure; it has cancelled the other chapters
            raise group.exceptions[0] from None
    return notebooks


async def _execute_cell(chapter: Chapter, code: Code, client: NotebookClient, i: int) -> None:
    what = f"`{code.source}`" if code.options is None else f"cell {code.label}".strip()
    try:
        await client.async_execute_cell(client.nb.cells[i], i)
    except CellExecutionError as error:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip().splitlines()[-12:]
        lines = [f"{what} failed: {error.ename}: {error.evalue}", *trace]
        raise chapter.error(code.line, "\n    ".join(lines)) from None
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # nbclient takes cancelling for a death
            raise asyncio.CancelledError from None
        raise chapter.error(code.line, f"{what} ended the kernel; is memory short?") from None


def empty_notebook(chapter: Chapter) -> NotebookNode:
    """The notebook before it is executed, with what its results depend on besides the modules."""
    new = nbformat.v4.new_code_cell
    cells = [new(code.source, id=f"c{i}") for i, code in enumerate(chapter.code)]
    usual = {"SCALE": "full", "SOURCE": "auto", "SEALED": "closed", "COMMIT": ""}
    names = {f"LAZY_ARTIST_{name}": value for name, value in usual.items()}
    settings = {name: os.environ.get(name) or value for name, value in names.items()}
    record = {"text": chapter.text, "settings": settings}
    return nbformat.v4.new_notebook(cells=cells, metadata={"bookbinder": record})


def _kept(book: Book, chapter: Chapter) -> Path:
    """Where a chapter's notebook is kept, apart from those of any other book."""
    name = hashlib.sha256(str(book.root / book.output_dir).encode()).hexdigest()[:12]
    return (cache_dir() / "bookbinder" / name / chapter.file).with_suffix(".ipynb")


def kept_notebook(book: Book, chapter: Chapter, since: float = 0.0) -> NotebookNode | None:
    """The chapter's notebook of an earlier build, if made for today's text and settings since a
    time (seconds of the epoch)."""
    file = _kept(book, chapter)
    try:
        notebook = nbformat.read(file, as_version=4)
        fits = notebook.metadata["bookbinder"] == empty_notebook(chapter).metadata["bookbinder"]
        return notebook if fits and file.stat().st_mtime >= since else None
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError):
        return None  # never executed, or damaged: it is executed again


def keep_notebook(book: Book, chapter: Chapter, notebook: NotebookNode) -> None:
    """Stores a chapter's executed notebook for later builds, whole or not at all."""
    write_whole(_kept(book, chapter), nbformat.writes(notebook).encode())


@asynccontextmanager
async def _kernel(book: Book, notebook: NotebookNode, forked: bool):
    """A client whose fresh kernel is ready to run; on the way out the kernel is shut down."""
    folder = tempfile.TemporaryDirectory(prefix="book-")
    manager = AsyncKernelManager(
        kernel_spec_manager=_ThisInterpreter(),
        connection_file=str(Path(folder.name, "kernel.json")),
        transport="tcp" if os.name == "nt" else "ipc",
        shutdown_wait_time=3.0,
    )
    if forked:
        spec = manager.kernel_spec
        manager.provisioner = ForkProvisioner(kernel_id="", kernel_spec=spec, parent=manager)
    environment = os.environ | {
        "LAZY_ARTIST_BUILDER": f"bookbinder {__version__}",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(ASSETS / "matplotlibrc"),
    }
    runner = NotebookClient(notebook, km=manager, timeout=None, startup_timeout=120)
    with folder:
        try:
            await manager.start_kernel(cwd=str(book.root), env=environment)
            await runner.async_start_new_kernel_client()
            yield runner
        finally:
            if runner.kc:
                runner.kc.stop_channels()
            if manager.has_kernel:
                # Gently, so that worker processes that a cell started end with it.
                await manager.interrupt_kernel()
                await manager.shutdown_kernel()
