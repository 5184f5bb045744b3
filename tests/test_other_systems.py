"""What Windows or macOS lack is asked for first, and child processes may begin by spawning."""

import ast
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "projects" / "NPLP"
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {
        *("fork", "forkpty", "getgid", "getpgid", "getuid", "getppgid", "killpg", "mkfifo", "nice", "setsid"),
        *("sched_getaffinity", "statvfs", "sysconf", "uname", "wait", "WNOHANG", "O_DIRECTORY", "O_NOFOLLOW"),
    },
    "signal": {
        *("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGQUIT", "SIGSTOP"),
        *("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"),
    },
}
WORDS = {"preexec_fn", "pass_fds"}
"""Of subprocess: refused there."""
QUESTION = re.compile(r"hasattr|os\.name|sys\.platform|get_all_start_methods")
REFUSED = re.compile(r'[<>:"|?*\\]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)')
CAUGHT = re.compile(r"ImportError|AttributeError")


def needs(node):
    """Return the names that a node takes from what Windows lacks."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & MODULES
    if isinstance(node, ast.ImportFrom):
        lacking = NAMES.get(node.module, set())
        return {node.module} & MODULES | {alias.name for alias in node.names} & lacking
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return {node.attr} & NAMES.get(node.value.id, set())
    if isinstance(node, ast.keyword) and not isinstance(node.value, ast.IfExp):
        return {node.arg} & WORDS
    if isinstance(node, ast.Constant):
        return {node.value} & {"fork", "forkserver"} if isinstance(node.value, str) else set()
    return set()


def unguarded(node, guarded=False):
    """Yield line and name of what is used without a question or a net around it."""
    if not guarded:
        yield from ((getattr(node, "lineno", 0), name) for name in needs(node))
    asked = isinstance(node, ast.If | ast.IfExp) and QUESTION.search(ast.unparse(node.test))
    caught = isinstance(node, ast.Try) and any(
        handler.type and CAUGHT.search(ast.unparse(handler.type)) for handler in node.handlers
    )
    inner = guarded or bool(asked) or caught
    for child in ast.iter_child_nodes(node):
        yield from unguarded(child, inner)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    import resource", ["resource"]),
        ("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None", []),
        ("os.kill(1, signal.SIGKILL)", ["SIGKILL"]),
        ("if os.name == 'posix':\n    os.fork()", []),
        ("from signal import SIGALRM", ["SIGALRM"]),
        ("get_context('fork')", ["fork"]),
        ("Popen(x, preexec_fn=f)", ["preexec_fn"]),
        ("Popen(x, preexec_fn=f if os.name == 'posix' else None)", []),
    ],
)
def test_the_check_sees_what_it_is_for(code, found):
    assert [name for _, name in unguarded(ast.parse(code))] == found


def test_no_module_uses_what_windows_lacks_without_asking():
    paths = sorted(SOURCES.rglob("*.py"))
    assert len(paths) > 200
    found = [
        f"{path.relative_to(SOURCES)}:{line} {name}"
        for path in paths
        for line, name in unguarded(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_text_is_read_and_written_as_utf_8_everywhere():
    """Windows has another encoding by default."""
    calls = [
        (path, node)
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    found = [
        f"{path.relative_to(SOURCES)}:{node.lineno}"
        for path, node in calls
        if node.func.attr in ("read_text", "write_text")
        and not any(word.arg in ("encoding", None) for word in node.keywords)
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["projects", "configs", "docs", "examples", "tests", "tools"])
def test_names_of_files_are_names_everywhere(folder):
    """Disks of Windows and macOS know no case, and Windows refuses some names."""
    root = SOURCES.parents[1]
    names = [path.relative_to(root).as_posix().lower() for path in (root / folder).rglob("*")]
    assert len(names) == len(set(names))
    assert [name for name in names if any(REFUSED.search(part) for part in name.split("/"))] == []
