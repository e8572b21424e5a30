# Tells Regrow what happens in a playbook: one line of JSON behind a mark, among the rest of the output.
from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = """
    name: regrow_events
    type: aggregate
    short_description: tells Regrow what happens in a playbook
    description:
      - Writes plays, tasks, outcomes of hosts and the recap as lines of JSON to standard output.
"""

import json
import os
import sys

from ansible.plugins.callback import CallbackBase

MARK = os.environ.get("REGROW_EVENTS", "")
NAME_MAX, MESSAGE_MAX, DIFF_MAX = 500, 4000, 30000


def cut(text, most):
    text = text if isinstance(text, str) else str(text)
    return text if len(text) <= most else text[:most] + " [...]"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "regrow_events"
    CALLBACK_NEEDS_ENABLED = False
    CALLBACK_NEEDS_WHITELIST = False

    def tell(self, **event):
        if MARK:
            sys.stdout.write(MARK + json.dumps(event) + "\n")
            sys.stdout.flush()

    def host(self, result, outcome):
        value = result._result
        diff = value.get("diff") or ""
        self.tell(
            what="host",
            host=cut(result._host.get_name(), NAME_MAX),
            task=cut(result._task.get_name().strip(), NAME_MAX),
            outcome=outcome,
            message=cut(self.message(value, outcome), MESSAGE_MAX),
            diff=cut(self._get_diff(diff), DIFF_MAX) if diff else "",
        )

    @staticmethod
    def message(value, outcome):
        if value.get("_ansible_no_log") or value.get("censored"):
            return "not shown: no_log"
        if outcome in ("failed", "ignored", "unreachable"):
            parts = [value.get(key) for key in ("msg", "stderr", "stdout") if value.get(key)]
            return "\n".join(part if isinstance(part, str) else json.dumps(part, default=str) for part in parts[:2])
        if outcome == "skipped":
            return value.get("skip_reason") or ""
        said = value.get("stdout") or value.get("msg") or ""
        return said if isinstance(said, str) else json.dumps(said, default=str)

    def v2_playbook_on_play_start(self, play):
        self.tell(what="play", play=cut(play.get_name().strip(), NAME_MAX))

    def task(self, task):
        self.tell(what="task", task=cut(task.get_name().strip(), NAME_MAX))

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.task(task)

    def v2_playbook_on_cleanup_task_start(self, task):
        self.task(task)

    def v2_playbook_on_handler_task_start(self, task):
        self.task(task)

    def v2_runner_on_ok(self, result):
        self.host(result, "changed" if result._result.get("changed") else "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.host(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_unreachable(self, result):
        self.host(result, "unreachable")

    def v2_runner_on_skipped(self, result):
        self.host(result, "skipped")

    def v2_playbook_on_stats(self, stats):
        hosts = {}
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            hosts[host] = {
                key: counts[key] for key in ("ok", "changed", "unreachable", "failures", "skipped")
            }
        self.tell(what="recap", hosts=hosts)
