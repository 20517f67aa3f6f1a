"""Samples the memory of the server for the programs of this folder.

Requires only Python 3.9 or later.
"""

import threading

from api import MB, Answer, Api, Failed

PAUSE_S = 0.05


class Server:
    """Samples the resident memory of the server, with its own connection and thread."""

    def __init__(self, args):
        self.args, self.samples_mb, self.reason = args, [], None
        self.sampled, self.ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        own = type(self.args)(**{**vars(self.args), "url": self.args.ops_url or self.args.url})
        try:
            api = Api(own)
            while True:
                # The last sample follows the end of the work.
                is_last = self.ended.is_set()
                answer = Answer(api.start("GET", "/metrics"))
                if answer.status != 200:
                    self.reason = f"{answer.status} {answer.problem()}"
                    return
                lines = answer.body.decode().splitlines()
                found = [line for line in lines if line.startswith("process_resident_memory_bytes ")]
                if not found:
                    self.reason = "/metrics has no process_resident_memory_bytes"
                    return
                self.samples_mb.append(float(found[0].split()[1]) / MB)
                self.sampled.set()
                if is_last:
                    return
                self.ended.wait(PAUSE_S)
        except (Failed, OSError) as error:
            self.reason = str(error)
        finally:
            self.sampled.set()

    def __enter__(self):
        """Returns after the first sample, which is the memory before the work."""
        self.thread.start()
        self.sampled.wait()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def __str__(self):
        if not self.samples_mb:
            return f"unknown ({self.reason})"
        return f"{self.samples_mb[0]:.1f} MB before, {max(self.samples_mb):.1f} MB at most"


def add_flag(parser):
    parser.add_argument("--ops-url", default="", metavar="URL",
                        help="the operators' listener, for the memory of the server (default: that of --url)")
