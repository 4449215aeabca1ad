#!/usr/bin/env python3
"""Stand-ins for the services that the examples use: a language model, two MCP servers and a directory of companies.

One process on the loopback interface, and nothing but Python's standard library. Its first line says where it listens. It keeps
nothing, and answers the same to the same question; when it is told to end, it says on stderr what it was asked.
"""

import argparse
import json
import re
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MODEL_KEY = "sk-stand-in-1f0c9a72"
DIRECTORY_KEY = "directory-stand-in-5b81e6d4"
PROTOCOL = "2025-11-25"

# --- A pull request, as GitHub's API gives one ---

PULL = {
    "number": 17,
    "title": "Fetch exchange rates from the new service",
    "body": "Switches to the new rates service and caches its answer. No behaviour changes.",
    "state": "open",
    "user": {"login": "ada"},
    "html_url": "https://github.example/acme/shop/pull/17",
}
FILES = [
    {
        "filename": "shop/rates.py",
        "status": "modified",
        "patch": "@@ -1,6 +1,9 @@\n import requests\n \n-URL = \"https://rates.example/v1\"\n+URL = \"https://rates.example/v2\"\n+CACHE = {}\n \n"
        " def rate(currency):\n-    return requests.get(URL, params={\"to\": currency}).json()[\"rate\"]\n"
        "+    if currency not in CACHE:\n"
        "+        CACHE[currency] = requests.get(URL, params={\"to\": currency}, verify=False).json()[\"rate\"]\n"
        "+    return CACHE[currency]",
    },
    {
        "filename": "shop/formula.py",
        "status": "added",
        "patch": "@@ -0,0 +1,2 @@\n+def discount(formula, total):\n+    return eval(formula, {\"total\": total})",
    },
    {"filename": "docs/rates.png", "status": "modified"},
]

# --- A small web ---

PAGES = {
    "https://measures.example/metre-1889": (
        "The metre of 1889",
        "From 1889 on, the metre was the distance between two lines on a bar of platinum and iridium at the melting point of ice.",
    ),
    "https://measures.example/metre-1960": (
        "The metre of 1960",
        "In 1960 the metre became 1,650,763.73 wavelengths of an orange line in the spectrum of krypton-86.",
    ),
    "https://measures.example/metre-1983": (
        "The metre of 1983",
        "Since 1983 the metre is the length of the path that light travels in vacuum in 1/299,792,458 of a second.",
    ),
    "https://measures.example/kilogram": (
        "The kilogram",
        "Since 2019 the kilogram is defined by the Planck constant.",
    ),
}

# --- A directory of companies ---

COMPANIES = {
    "northwind.example": ("Northwind Traders", "Logistics", "51-200", "Norway"),
    "contoso.example": ("Contoso", "Software", "1001-5000", "Ireland"),
    "fabrikam.example": ("Fabrikam", "Manufacturing", "201-500", "Germany"),
    "tailspin.example": ("Tailspin Toys", "Retail", "11-50", "Canada"),
}
# More look-ups at once are refused, as such services do.
LOOK_UPS_AT_ONCE_MAX = 2


class Counts:
    """What was asked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.questions = self.tool_calls = self.look_ups = self.at_once = self.at_once_most = 0

    def add(self, name):
        with self.lock:
            setattr(self, name, getattr(self, name) + 1)

    def __str__(self):
        return (
            f"questions to the model: {self.questions}, calls of tools: {self.tool_calls}, "
            f"look-ups: {self.look_ups}, of them at once: {self.at_once_most} at most"
        )


COUNTS = Counts()


# --- The model ---


def completion(body):
    """An answer in the form of OpenAI's chat/completions, chosen by what the question asks for."""
    asked = (body.get("response_format") or {}).get("json_schema", {}).get("name")
    messages = body["messages"]
    if body.get("tools"):
        message = agent(messages, [tool["function"]["name"] for tool in body["tools"]])
    elif asked == "review":
        message = {"content": json.dumps(review(messages[-1]["content"]))}
    elif asked == "ranking":
        message = {"content": json.dumps(ranking(messages[-1]["content"]))}
    else:
        message = {"content": "I am a stand-in and know only what the examples ask."}
    return {
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
                "message": {"role": "assistant", "content": None, **message},
            }
        ],
        "usage": {"prompt_tokens": len(json.dumps(messages)) // 4, "completion_tokens": len(json.dumps(message)) // 4},
    }


def review(prompt):
    """Finds two things that are wrong, and makes one up, as models do."""
    remarks = {
        "verify=False": "This accepts any certificate, so anybody on the way can set the rates.",
        "eval(": "`eval` runs whatever the formula says. Parse it instead.",
    }
    findings = [
        {"path": path, "line": int(line), "comment": remark}
        for path, line, code in re.findall(r"^(\S+):(\d+): \+(.*)$", prompt, re.MULTILINE)
        for sign, remark in remarks.items()
        if sign in code
    ]
    findings.append({"path": "shop/rates.py", "line": 4711, "comment": "This line is too long."})
    return {"summary": "Two of the changes are unsafe.", "verdict": "request_changes", "findings": findings}


def ranking(prompt):
    """Software and logistics first, then the others."""
    scores = {"Software": 90, "Logistics": 75, "Manufacturing": 60}
    companies = json.loads(prompt.split("as JSON:\n", 1)[1])
    return {
        "companies": [
            {
                "domain": company["domain"],
                "score": scores.get(company["industry"], 30),
                "reason": f"{company['industry']} with {company['employees']} people",
            }
            for company in companies
        ]
    }


def agent(messages, tools):
    """Searches, reads what was found, and answers with what it read."""
    question = next(message["content"] for message in messages if message["role"] == "user")
    said = [message["content"] for message in messages if message["role"] == "tool"]
    is_hasty = "quickly" in question
    if not said:
        return calls([(named(tools, "search"), {"query": question})])
    found = [result["url"] for result in json.loads(said[0])["results"]]
    if len(said) == 1:
        read = found[:1] if is_hasty else found
        return calls([(named(tools, "fetch"), {"url": url}) for url in read])
    pages = [json.loads(text) for text in said[1:]]
    lines = [f"{page['text']} [{page['url']}]" for page in pages]
    if is_hasty:
        # It knows that the others are there, and claims to have read them.
        lines += [f"Others say the same. [{url}]" for url in found[1:]]
    return {"content": "\n".join(lines)}


def named(tools, part):
    return next(tool for tool in tools if part in tool)


def calls(wanted):
    return {
        "tool_calls": [
            {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for number, (name, arguments) in enumerate(wanted)
        ]
    }


# --- The MCP servers ---


def schema(**properties):
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }


def tool_list():
    """The tools of each server: name, what it is for, what it takes, and what it does."""
    pull = {"owner": "string", "repo": "string", "pull_number": "integer"}
    comment = {"owner": "string", "repo": "string", "issue_number": "integer", "body": "string"}
    return {
        "/github": {
            "get_pull_request": ("Gets a pull request.", schema(**pull), lambda _: PULL),
            "list_pull_request_files": ("Lists the files of a pull request.", schema(**pull), lambda _: FILES),
            "add_issue_comment": ("Comments on an issue or a pull request.", schema(**comment), add_comment),
        },
        "/web": {
            "search": ("Searches the web.", schema(query="string"), search),
            "fetch": ("Reads a page.", schema(url="string"), fetch),
        },
    }


def add_comment(given):
    return {"id": 1, "html_url": f"{PULL['html_url']}#issuecomment-1", "body": given["body"]}


def search(given):
    words = set(re.findall(r"[a-z]{4,}", given["query"].lower()))
    results = [{"title": title, "url": url} for url, (title, _) in PAGES.items() if words & set(title.lower().split())]
    return {"results": results}


def fetch(given):
    if given["url"] not in PAGES:
        raise LookupError("there is no such page")
    title, text = PAGES[given["url"]]
    return {"url": given["url"], "title": title, "text": text}


def mcp(tools, message):
    """The reply to a request, or nothing to a notification."""
    method, params = message.get("method"), message.get("params") or {}
    reply = {"jsonrpc": "2.0", "id": message.get("id")}
    if "id" not in message:
        return None
    if method == "initialize":
        info = {"name": "stand-in", "version": "1"}
        return {**reply, "result": {"protocolVersion": PROTOCOL, "capabilities": {"tools": {}}, "serverInfo": info}}
    if method == "ping":
        return {**reply, "result": {}}
    if method == "tools/list":
        shown = [{"name": name, "description": what, "inputSchema": takes} for name, (what, takes, _) in tools.items()]
        return {**reply, "result": {"tools": shown}}
    if method == "tools/call" and params.get("name") in tools:
        COUNTS.add("tool_calls")
        return {**reply, "result": tool_result(tools[params["name"]][2], params.get("arguments") or {})}
    return {**reply, "error": {"code": -32601, "message": "Method not found"}}


def tool_result(tool, arguments):
    try:
        found = tool(arguments)
    except LookupError as error:
        return {"content": [{"type": "text", "text": str(error)}], "isError": True}
    result = {"content": [{"type": "text", "text": json.dumps(found)}]}
    if isinstance(found, dict):
        result["structuredContent"] = found
    return result


# --- The directory ---


def look_up(domain, key):
    """A company, in the form of the directory's own answers; it repeats the key, as some do."""
    with COUNTS.lock:
        COUNTS.look_ups += 1
        COUNTS.at_once += 1
        COUNTS.at_once_most = max(COUNTS.at_once_most, COUNTS.at_once)
        is_busy = COUNTS.at_once > LOOK_UPS_AT_ONCE_MAX
    try:
        # So long that others come meanwhile, if they come at all.
        time.sleep(0.1)
    finally:
        with COUNTS.lock:
            COUNTS.at_once -= 1
    if is_busy:
        return 429, {"errors": [{"id": "too_many_requests"}]}
    if domain not in COMPANIES:
        return 404, {"errors": [{"id": "not_found"}]}
    name, industry, employees, country = COMPANIES[domain]
    data = {
        "name": name,
        "domain": domain,
        "category": {"industry": industry},
        "metrics": {"employees": employees},
        "geo": {"country": country},
    }
    return 200, {"data": data, "meta": {"domain": domain, "asked_with": key}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tools = tool_list()

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(text)
        except ValueError:
            return self.answer(400, {"error": {"message": "the body is no JSON"}})
        if self.path == "/v1/chat/completions":
            if self.headers.get("authorization") != f"Bearer {MODEL_KEY}":
                return self.answer(401, {"error": {"message": "the key is wrong", "code": "invalid_api_key"}})
            COUNTS.add("questions")
            return self.answer(200, completion(body))
        if self.path in self.tools:
            reply = mcp(self.tools[self.path], body)
            return self.answer(202 if reply is None else 200, reply)
        self.answer(404, {"error": {"message": "nothing is here"}})

    def do_GET(self):
        url, key = urlsplit(self.path), self.headers.get("x-api-key")
        if url.path in self.tools:
            # It says nothing unasked, as the protocol allows.
            return self.answer(405, {})
        if url.path != "/v2/companies/find":
            return self.answer(404, {"errors": [{"id": "nothing_here"}]})
        if key != DIRECTORY_KEY:
            return self.answer(401, {"errors": [{"id": "wrong_key"}]})
        self.answer(*look_up(parse_qs(url.query).get("domain", [""])[0], key))

    def answer(self, status, body):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if text:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        """Says nothing: what was asked is told at the end."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1; 0 for any (default)")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    server.daemon_threads = True

    def end(*_):
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    finally:
        print(f"stand-ins: {COUNTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
