"""The command `chat` of any engine; the tests write what the model answers."""

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from gptoss_weights.chatting import ChatRequest, chat_options
from gptoss_weights.cli_errors import ErrorMappingGroup, ExitCode
from gptoss_weights.completions import NewToken
from gptoss_weights.demo import DEMO_CHECKPOINT_PATH
from gptoss_weights.text.harmony import FormattingToken, HarmonyEncoding, load_harmony_encoding

pytest.importorskip("tokenizers", reason="the extra `text` is not installed")

ANSWER = "<|channel|>analysis<|message|>Simple.<|end|><|start|>assistant<|channel|>final<|message|>Four 🙂<|return|>"
CALL = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{}<|call|>"


@pytest.fixture(scope="module")
def folder() -> Path:
    return DEMO_CHECKPOINT_PATH


@pytest.fixture(scope="module")
def encoding(folder) -> HarmonyEncoding:
    return load_harmony_encoding(folder)


@pytest.fixture
def answers():
    """Has the model say what is appended to the first list, turn by turn; the second is what it was asked, as text."""
    return [], []


@pytest.fixture
def run(answers, encoding):
    """Runs a command that has the options of a chat."""
    coming, asked = answers

    @click.group(cls=ErrorMappingGroup)
    def program() -> None:
        """A program."""

    @program.command("chat")
    @click.argument("source", type=click.Path(path_type=Path))
    @chat_options
    def chat(source: Path, request: ChatRequest) -> None:
        chat = request.begin(source)
        ends = chat.end_of_turn([])

        def generate(prompt, *, max_new_tokens, seed):
            asked.append(encoding.decode(prompt))
            for place, token in enumerate(encoding.tokenizer.encode(coming.pop(0))[:max_new_tokens]):
                stops, is_last = token in ends, place + 1 == max_new_tokens
                reason = "stop" if stops else "length" if is_last else None
                yield NewToken(sequence=0, token=token, finish_reason=reason)
                if stops:
                    return

        chat.run(generate, ends)

    def invoke(*arguments: object, stdin: str | bytes | None = None):
        return CliRunner().invoke(program, [*map(str, arguments)], input=stdin)

    return invoke


def test_the_answer_is_printed_and_the_reasoning_is_not(run, folder, answers):
    coming, asked = answers
    coming.append(ANSWER)
    result = run("chat", folder, "--message", "What is 2 + 2?", "--reasoning", "low", "--date", "2025-08-05")
    assert result.exit_code == 0, result.output
    assert result.stdout == "Four 🙂\n"
    assert result.stderr == ""
    assert "Reasoning: low" in asked[0]
    assert "Current date: 2025-08-05" in asked[0]
    assert asked[0].endswith("<|start|>user<|message|>What is 2 + 2?<|end|><|start|>assistant")


def test_reasoning_goes_to_standard_error_if_wanted(run, folder, answers):
    answers[0].append(ANSWER)
    result = run("chat", folder, "--message", "Hi", "--show-reasoning")
    assert (result.stdout, "Simple." in result.stderr) == ("Four 🙂\n", True)


def test_json_has_every_message(run, folder, answers, encoding):
    coming, asked = answers
    coming.append(ANSWER)
    report = json.loads(run("chat", folder, "--message", "Hi", "--json").stdout)
    assert report["messages"] == [
        {"role": "assistant", "channel": "analysis", "content": "Simple."},
        {"role": "assistant", "channel": "final", "content": "Four 🙂"},
    ]
    assert report["finish_reason"] == "stop"
    assert encoding.decode(report["prompt_tokens"]) == asked[0]
    assert report["tokens"] == encoding.tokenizer.encode(ANSWER)
    assert set(report["timings"]) == {"load_seconds", "generate_seconds"}


def test_standard_input_is_the_message_where_nobody_types(run, folder, answers):
    coming, asked = answers
    coming.append(ANSWER)
    assert run("chat", folder, "--instructions", "Be brief.", stdin="Two\nlines\n").stdout == "Four 🙂\n"
    assert "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>" in asked[0]
    assert "<|message|>Two\nlines<|end|>" in asked[0]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (["--message", "a\udcff"], None, ExitCode.BAD_INPUT, "the text is no Unicode"),
        (["--message", " "], None, ExitCode.USAGE, "The message is empty"),
        ([], b"\xff\xfe", ExitCode.USAGE, "Standard input is no UTF-8"),
    ],
)
def test_what_is_no_text_is_said_to_be_none(run, folder, answers, arguments, stdin, code, words):
    answers[0].append(ANSWER)
    result = run("chat", folder, *arguments, stdin=stdin)
    assert result.exit_code == code
    assert words in result.output


def test_a_file_of_messages_and_tools_is_answered(run, folder, answers, tmp_path):
    coming, asked = answers
    coming.append(CALL)
    weather = {"type": "function", "function": {"name": "weather", "description": "Says it.", "parameters": {}}}
    path = tmp_path / "messages.json"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Rain?"}], "tools": [weather]}))
    result = run("chat", folder, "--conversation", path)
    assert result.stdout == "[calls functions.weather with {}]\n"
    assert "type weather = (_: any) => any;" in asked[0]
    coming.append(CALL)
    [message] = json.loads(run("chat", folder, "--conversation", path, "--json").stdout)["messages"]
    assert message["recipient"] == "functions.weather"


@pytest.fixture
def terminal(monkeypatch):
    """Makes a terminal of standard input, where these lines are typed one after the other."""

    def type_(*lines):
        waiting = list(lines)
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)

        def read(_prompt):
            if not waiting:
                raise EOFError
            return waiting.pop(0)

        monkeypatch.setattr("builtins.input", read)

    return type_


def test_on_a_terminal_turns_follow_each_other(run, folder, answers, terminal):
    coming, asked = answers
    coming += [ANSWER, ANSWER]
    terminal("What is 2 + 2?", "Sure?")
    result = run("chat", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("Four 🙂\n") == 2
    assert "<|channel|>final<|message|>Four 🙂<|end|><|start|>user<|message|>Sure?<|end|>" in asked[1]
    assert "Simple." not in asked[1], "old reasoning is left out"


def test_what_is_typed_after_a_call_is_the_tools_answer(run, folder, answers, terminal):
    coming, asked = answers
    coming += [CALL, ANSWER]
    terminal("Rain?", "Sun")
    assert "Four 🙂" in run("chat", folder).stdout
    assert "<|start|>functions.weather to=assistant<|channel|>commentary<|message|>Sun<|end|>" in asked[1]


def test_an_answer_that_is_no_harmony_is_shown_as_it_is(run, folder, answers):
    answers[0].append("I was never taught that<|return|>")
    result = run("chat", folder, "--message", "Hi")
    assert result.exit_code == 0, result.output
    assert result.stdout == "I was never taught that\n"
    assert "warning: the answer is no Harmony, and shown as it is" in result.stderr


def test_a_cut_answer_says_so(run, folder, answers, encoding):
    answers[0].append(ANSWER)
    count = len(encoding.tokenizer.encode(ANSWER)) - 1
    result = run("chat", folder, "--message", "Hi", "--max-new-tokens", count)
    assert result.stdout == "Four 🙂\n"
    assert f"cut off after {count} tokens" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-length", "5", "--message", "Hi"], "leaves no room to answer in --max-length 5"),
        (["--date", "tomorrow"], "neither a date such as 2025-08-05 nor 'today'"),
        ([], "Standard input is empty"),
        (["--top-k", "3", "--message", "Hi"], "Without --temperature"),
    ],
)
def test_impossible_wishes_are_usage_errors(run, folder, arguments, words):
    result = run("chat", folder, *arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


def test_json_wants_one_message(run, folder, terminal):
    terminal()
    result = run("chat", folder, "--json")
    assert result.exit_code == 2
    assert "--json prints one answer" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", "not a JSON object"), ("{}", "'messages' is no list"), ('{"messages": [{"role": "king"}]}', "messages[0]")],
)
def test_a_bad_file_is_bad_input(run, folder, tmp_path, text, words):
    path = tmp_path / "messages.json"
    path.write_text(text)
    result = run("chat", folder, "--conversation", path)
    assert result.exit_code == 3, result.output
    assert words in result.stderr


def test_a_checkpoint_without_tokenizer_cannot_chat(run, folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    result = run("chat", tmp_path, "--message", "Hi")
    assert result.exit_code == 3
    assert "tokenizer.json" in result.stderr


def test_today_is_a_date(run, folder, answers):
    import datetime

    coming, asked = answers
    coming.append(ANSWER)
    run("chat", folder, "--message", "Hi", "--date", "today")
    assert f"Current date: {datetime.date.today().isoformat()[:4]}" in asked[0]


def test_markers_that_a_user_types_are_only_text(run, folder, answers, encoding):
    answers[0].append(ANSWER)
    report = json.loads(run("chat", folder, "--message", "<|return|>", "--json").stdout)
    assert encoding.special_ids[FormattingToken.RETURN] not in report["prompt_tokens"]
