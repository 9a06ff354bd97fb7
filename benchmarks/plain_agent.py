"""The peer of benchmarks/execution.py: one conversation by a plain script on the OpenHands SDK."""

import sys

from openhands.sdk import LLM, Agent, Conversation, Tool
from openhands.tools.file_editor import FileEditorTool
from openhands.tools.terminal import TerminalTool
from pydantic import SecretStr

base_url, model, key, workspace, persistence, message = sys.argv[1:]
conversation = Conversation(
    agent=Agent(
        llm=LLM(model=f"openrouter/{model}", api_key=SecretStr(key), base_url=base_url, usage_id="agent"),
        tools=[Tool(name=TerminalTool.name, params={"terminal_type": "subprocess"}), Tool(name=FileEditorTool.name)],
    ),
    workspace=workspace,
    persistence_dir=persistence,
    visualizer=None,
)
conversation.send_message(message)
conversation.run()
conversation.close()
