"""Runs the cells of chapters in Jupyter kernels and keeps what they gave, as notebooks."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from bookbinder import BookError, __version__
from bookbinder.kernels import ForkProvisioner, KernelServer
from bookbinder.source import Book, Chapter, Code

# Shows a returned Figure as a retina PNG even where pyplot was never imported; loads nothing now.
_SETUP = """
def _show_figures(shell):
    def png(figure):
        from IPython.core.pylabtools import retina_figure
        return retina_figure(figure, base64=True, bbox_inches="tight")
    formatter = shell.display_formatter.formatters["image/png"]
    formatter.for_type_by_name("matplotlib.figure", "Figure", png)
_show_figures(get_ipython())
del _show_figures
"""


class _ThisInterpreter(KernelSpecManager):
    """Kernels are this very Python, whatever kernels are installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        argv += ["--InlineBackend.figure_formats={'retina'}", "--HistoryManager.enabled=False"]
        argv += ["--IPKernelApp.log_level=50"]  # no complaints of a kernel that is interrupted
        return KernelSpec(argv=argv, language="python", display_name=kernel_name)


def execute(
    book: Book, chapters: Iterable[Chapter], done: Callable[[Chapter], None] = lambda _: None
) -> dict[str, NotebookNode]:
    """Executes the chapters, BOOKBINDER_JOBS (default 2) at a time, those marked `after: all` last.

    Kernels are this interpreter, in the project's root, with this environment. `done` is called
    after each cell. Returns a notebook for each chapter's file: one code cell per piece of code.
    Raises BookError at the first cell that fails, naming chapter, line, label and error.
    """
    try:
        return asyncio.run(_execute_all(book, list(chapters), done))
    except ExceptionGroup as group:  # the first failure; it has cancelled the other chapters
        raise group.exceptions[0] from None


async def _execute_all(
    book: Book, chapters: list[Chapter], done: Callable[[Chapter], None]
) -> dict[str, NotebookNode]:
    wish = os.environ.get("BOOKBINDER_JOBS") or "2"
    if not re.fullmatch(r"[1-9]\d*", wish):
        raise BookError(f"BOOKBINDER_JOBS={wish}: not a number of kernels; set it to 1 or more")
    jobs = int(wish)
    alive, running = asyncio.Semaphore(jobs + 1), asyncio.Semaphore(jobs)  # one kernel starts ahead
    others_done = asyncio.Event()
    left = {chapter.file for chapter in chapters if not chapter.after_all}
    notebooks: dict[str, NotebookNode] = {}

    async def run(chapter: Chapter, connection_file: Path) -> None:
        notebook = notebooks[chapter.file] = _empty_notebook(chapter)
        if notebook.cells:
            async with alive, _kernel(book, notebook, connection_file, server) as client:
                if chapter.after_all:
                    await others_done.wait()
                async with running:
                    for i, code in enumerate(chapter.code):
                        if not code.options or code.options.get("eval", True):
                            await _execute_cell(chapter, code, client, i)
                        done(chapter)
        left.discard(chapter.file)
        if not left:
            others_done.set()

    many = sum(bool(chapter.code) for chapter in chapters) > jobs + 1
    with tempfile.TemporaryDirectory(prefix="book-") as folder:
        async with _server(book, many) as server, asyncio.TaskGroup() as tasks:
            for i, chapter in enumerate(sorted(chapters, key=lambda chapter: chapter.after_all)):
                tasks.create_task(run(chapter, Path(folder) / f"{i}.json"))
    return notebooks


async def _execute_cell(chapter: Chapter, code: Code, client: NotebookClient, i: int) -> None:
    what = f"cell {code.label}" if code.label else "cell" if code.options else f"`{code.source}`"
    try:
        await client.async_execute_cell(client.nb.cells[i], i)
    except CellExecutionError as error:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).strip().splitlines()[-12:]
        raise chapter.error(
            code.line, f"{what} failed: {error.ename}: {error.evalue}\n    " + "\n    ".join(trace)
        ) from None
    except DeadKernelError:
        if asyncio.current_task().cancelling():  # nbclient takes cancelling for a death
            raise asyncio.CancelledError from None
        raise chapter.error(code.line, f"{what} ended the kernel; is memory short?") from None


def settings() -> dict[str, str]:
    """The settings that a kept result depends on besides its chapter's text."""
    return {
        "LAZY_ARTIST_SCALE": os.environ.get("LAZY_ARTIST_SCALE") or "full",
        "LAZY_ARTIST_SOURCE": os.environ.get("LAZY_ARTIST_SOURCE") or "auto",
        "LAZY_ARTIST_COMMIT": os.environ.get("LAZY_ARTIST_COMMIT") or "",  # of an edition
    }


def _empty_notebook(chapter: Chapter) -> NotebookNode:
    cells = [
        nbformat.v4.new_code_cell(code.source, id=f"c{i}") for i, code in enumerate(chapter.code)
    ]
    record = {"sha256": chapter.sha256, "settings": settings()}
    return nbformat.v4.new_notebook(cells=cells, metadata={"bookbinder": record})


def kept_notebook(folder: Path, chapter: Chapter, since: float = 0.0) -> NotebookNode | None:
    """The chapter's notebook of an earlier build if it fits the text and settings of today, and
    was executed after `since` (seconds of the epoch)."""
    try:
        if _notebook_file(folder, chapter).stat().st_mtime < since:
            return None
        notebook = nbformat.read(_notebook_file(folder, chapter), as_version=4)
        fits = notebook.metadata["bookbinder"] == _empty_notebook(chapter).metadata["bookbinder"]
    except (OSError, ValueError, KeyError, AttributeError, nbformat.ValidationError):
        return None  # never executed, or damaged: it is executed again
    return notebook if fits and len(notebook.cells) == len(chapter.code) else None


def keep_notebook(folder: Path, chapter: Chapter, notebook: NotebookNode) -> None:
    """Stores a chapter's executed notebook for later builds, whole or not at all."""
    file = _notebook_file(folder, chapter)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as new:
        try:
            new.write(nbformat.writes(notebook))
            new.flush()
            os.fsync(new.fileno())
            os.replace(new.name, file)
        except BaseException:
            os.unlink(new.name)
            raise


def _notebook_file(folder: Path, chapter: Chapter) -> Path:
    return (folder / chapter.file).with_suffix(".ipynb")


def _environment() -> dict[str, str]:
    return os.environ | {
        "LAZY_ARTIST_BUILDER": f"bookbinder {__version__}",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(Path(__file__).with_name("assets") / "matplotlibrc"),
    }


@asynccontextmanager
async def _server(book: Book, many: bool):
    """A server to fork kernels from, or None where new processes are better: for few kernels,
    and where a process cannot safely be forked after it has loaded libraries (macOS) or at all.
    """
    if not many or sys.platform != "linux":
        yield None
        return
    server = KernelServer(book.root, _environment())
    try:
        yield server if await server.ready() else None
    finally:
        server.close()


@asynccontextmanager
async def _kernel(
    book: Book, notebook: NotebookNode, connection_file: Path, server: KernelServer | None
):
    """A client whose fresh kernel is ready to run; on the way out the kernel is shut down."""
    manager = AsyncKernelManager(
        kernel_spec_manager=_ThisInterpreter(),
        connection_file=str(connection_file),
        transport="tcp" if os.name == "nt" else "ipc",
        shutdown_wait_time=3.0,
    )
    if server:
        manager.provisioner = ForkProvisioner(
            server, kernel_id="", kernel_spec=manager.kernel_spec, parent=manager
        )
    client = None
    try:
        await manager.start_kernel(cwd=str(book.root), env=_environment())
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=120)
        client.execute(_SETUP, silent=True, store_history=False)
        runner = NotebookClient(notebook, km=manager, timeout=None)
        runner.kc = client
        yield runner
    finally:
        if client:
            client.stop_channels()
        if manager.has_kernel:
            # Gently, so that worker processes that a cell started end with it.
            await manager.interrupt_kernel()
            await manager.shutdown_kernel()
