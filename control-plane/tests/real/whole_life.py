"""The whole life of a workflow through a client that was generated from the API's description.

Arguments: the folder of the client's package, the service's URL, a token.
"""

import importlib
import pathlib
import sys

folder, url, token = sys.argv[1:]
package = pathlib.Path(folder)
sys.path.insert(0, str(package.parent))
client = importlib.import_module(package.name).AuthenticatedClient(base_url=url, token=token)
models = importlib.import_module(f"{package.name}.models")


def call(tag, operation, *path, status=200, body=None, **query):
    """Calls an operation and gives what the client made of the answer."""
    module = importlib.import_module(f"{package.name}.api.{tag}.{operation}")
    if body is not None:
        kind = module.sync_detailed.__annotations__["body"]
        # A body that may be left out is a union with nothing.
        kind = next((part for part in getattr(kind, "__args__", ()) if hasattr(part, "from_dict")), kind)
        query["body"] = kind.from_dict(body)
    answer = module.sync_detailed(*path, client=client, **query)
    assert answer.status_code == status, (operation, answer.status_code, answer.content)
    return answer.parsed


graph = {
    "steps": [
        {"id": "ask", "type": "human_task", "task_type": "approval"},
        {"id": "double", "type": "lua_script", "depends_on": ["ask"], "script": "return { n = input.n * 2 }"},
    ]
}
workflow = call("workflows", "create_workflow", status=201, body={"name": "a life", "graph": graph})
changed = {"description": "seen by a stranger"}
assert call("workflows", "update_workflow", workflow.id, body=changed).description == "seen by a stranger"
assert call("workflows", "validate_workflow", workflow.id, body={}).valid
version = call("versions", "publish_version", workflow.id, status=201, body={"changelog": "first"})
assert version.version == 1
start = {"command": "start", "params": {"trigger_payload": {"n": 21}}}
run = call("runs", "command_workflow", workflow.id, body=start, wait="30s")
tasks = call("tasks", "list_pending_tasks_of_run", workflow.id, run.run_id).items
call("tasks", "complete_task", workflow.id, run.run_id, tasks[0].task_id, body={"approved": True})
for _ in range(1_000):
    ended = call("runs", "get_run", workflow.id, run.run_id)
    if ended.status in ("completed", "failed", "stopped"):
        break
assert ended.outputs.to_dict() == {"double": {"n": 42}}, ended
events = call("runs", "list_run_events", workflow.id, run.run_id)
assert events.items[0].to_dict()["event_type"] == "run_started", events
assert len(call("runs", "list_runs_of_workflow", workflow.id).items) == 1
call("workflows", "archive_workflow", workflow.id, status=204)
problem = call("runs", "command_workflow", workflow.id, status=409, body=start)
assert problem.code == "WORKFLOW_ARCHIVED", problem
print(ended.status)
