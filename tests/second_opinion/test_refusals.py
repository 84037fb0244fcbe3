"""What DynamoDB must refuse, and say when it does, for the grid's writes to be right.

The tests run on the embedded AWS, and on Dynoxide where the run is a second opinion. A server that does otherwise is
named with the test in `differences.py`. The texts are those of AWS.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.support.control_plane_harness import create_table
from tests.support.embedded_aws import point_at
from tests.template.stack import of_type

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.client import DynamoDBClient

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table with the keys and the index of the chunks table. Its client checks no quotas: the server must."""

    client: "DynamoDBClient"
    name: str

    def key(self, chunk: int) -> Row:
        return {"bucket": {"S": "bucket"}, "chunk": {"N": str(chunk)}}

    def put(self, chunk: int, **attributes: Row) -> None:
        self.client.put_item(TableName=self.name, Item={**self.key(chunk), **attributes})

    def row(self, chunk: int) -> Row | None:
        """The attributes of a row beside its key."""
        found = self.client.get_item(TableName=self.name, Key=self.key(chunk), ConsistentRead=True).get("Item")
        return None if found is None else {name: found[name] for name in found if name not in ("bucket", "chunk")}

    def update(self, chunk: int, expression: str, **more: Any) -> Row:
        response = self.client.update_item(
            TableName=self.name, Key=self.key(chunk), UpdateExpression=expression, ReturnValues="ALL_NEW", **more
        )
        return response["Attributes"]

    def batch(self, *statements: tuple[str, Sequence[Row]]) -> list[dict[str, Any]]:
        """Execute statements, each with its parameters, and `TABLE` for the table's name."""
        requests: Any = [
            {
                "Statement": text.replace("TABLE", f'"{self.name}"'),
                **({"Parameters": list(parameters)} if parameters else {}),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
            for text, parameters in statements
        ]
        responses: Any = self.client.batch_execute_statement(Statements=requests)["Responses"]
        return list(responses)

    def claim(self, chunk: int, owner: str) -> tuple[str, list[Row]]:
        """A statement that takes a row on condition that nobody has it."""
        return (
            'UPDATE TABLE SET "owner" = ? SET attempt = attempt + 1 '
            'WHERE "bucket" = ? AND chunk = ? AND "owner" = \'\' RETURNING ALL NEW *',
            [{"S": owner}, {"S": "bucket"}, {"N": str(chunk)}],
        )


@pytest.fixture
def table(embedded_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    point_at(embedded_environment, monkeypatch)
    client = boto3.session.Session().client("dynamodb")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    table = Table(client, create_table("ChunksTable", f"refusals-{uuid.uuid4().hex[:12]}"))
    yield table
    client.delete_table(TableName=table.name)


def refused(request: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    """The code and the text of a refusal."""
    error = request.value.response["Error"]
    return error["Code"], error["Message"]


# --- batches of statements ---


def test_one_row_twice_in_a_batch_is_refused(table: Table) -> None:
    table.put(0, owner={"S": ""}, attempt={"N": "0"})
    with pytest.raises(ClientError) as caught:
        table.batch(table.claim(0, "a"), table.claim(0, "b"))
    assert refused(caught) == ("ValidationException", "Provided list of item keys contains duplicates")
    assert table.row(0) == {"owner": {"S": ""}, "attempt": {"N": "0"}}


def test_more_than_25_statements_are_refused(table: Table) -> None:
    for chunk in range(25):
        table.put(chunk, owner={"S": ""}, attempt={"N": "0"})
    with pytest.raises(ClientError) as caught:
        table.batch(*[table.claim(chunk, "a") for chunk in range(26)])
    code, text = refused(caught)
    assert code == "ValidationException"
    assert text.endswith("Member must have length less than or equal to 25")
    assert not any("Error" in answer for answer in table.batch(*[table.claim(chunk, "a") for chunk in range(25)]))


def test_a_statement_of_more_than_8_kb_is_refused(table: Table) -> None:
    with pytest.raises(ClientError) as caught:
        table.batch((f"UPDATE TABLE SET note = '{'x' * 9000}' WHERE \"bucket\" = 'bucket' AND chunk = 0", []))
    assert refused(caught)[0] == "ValidationException"


def test_each_statement_has_its_own_condition_and_answer(table: Table) -> None:
    table.put(0, owner={"S": ""}, attempt={"N": "0"})
    table.put(1, owner={"S": "b"}, attempt={"N": "7"})
    taken, failed, absent = table.batch(*[table.claim(chunk, "a") for chunk in range(3)])
    assert "Error" not in taken
    assert failed["Error"]["Code"] == absent["Error"]["Code"] == "ConditionalCheckFailed"
    assert table.row(0) == {"owner": {"S": "a"}, "attempt": {"N": "1"}}
    assert table.row(1) == {"owner": {"S": "b"}, "attempt": {"N": "7"}}
    assert table.row(2) is None


def test_a_statement_that_is_accepted_gives_the_row_as_written(table: Table) -> None:
    table.put(0, owner={"S": ""}, attempt={"N": "0"})
    [taken] = table.batch(table.claim(0, "a"))
    assert taken["Item"] == {**table.key(0), "owner": {"S": "a"}, "attempt": {"N": "1"}}


def test_a_statement_whose_condition_fails_gives_the_row_as_it_is(table: Table) -> None:
    table.put(0, owner={"S": "b"}, attempt={"N": "7"})
    failed, absent = table.batch(table.claim(0, "a"), table.claim(1, "a"))
    assert failed["Error"]["Item"] == {**table.key(0), "owner": {"S": "b"}, "attempt": {"N": "7"}}
    assert "Item" not in absent["Error"]


def test_an_insert_of_what_is_there_is_refused_alone(table: Table) -> None:
    table.put(0, note={"S": "first"})
    insert = "INSERT INTO TABLE VALUE {'bucket': 'bucket', 'chunk': ?, 'note': 'second'}"
    there, new = table.batch((insert, [{"N": "0"}]), (insert, [{"N": "1"}]))
    assert there["Error"]["Code"] == "DuplicateItem"
    assert "Error" not in new
    assert (table.row(0), table.row(1)) == ({"note": {"S": "first"}}, {"note": {"S": "second"}})


def test_a_statement_that_makes_no_sense_is_refused_alone(table: Table) -> None:
    table.put(0, note={"S": "text"})
    table.put(1, tally={"N": "1"})
    more = "UPDATE TABLE SET {} = {} + 1 WHERE \"bucket\" = 'bucket' AND chunk = {}"
    wrong, right = table.batch((more.format("note", "note", 0), []), (more.format("tally", "tally", 1), []))
    assert wrong["Error"]["Code"] == "ValidationError"
    assert "Error" not in right
    assert table.row(1) == {"tally": {"N": "2"}}


def test_a_statement_that_sets_and_removes_one_path_is_refused(table: Table) -> None:
    table.put(0, note={"S": "before"})
    both = "UPDATE TABLE SET note = 'after' REMOVE note WHERE \"bucket\" = 'bucket' AND chunk = 0"
    [answer] = table.batch((both, []))
    assert answer["Error"]["Code"] == "ValidationError"
    assert table.row(0) == {"note": {"S": "before"}}


def test_a_statement_may_remove_what_is_not_there(table: Table) -> None:
    table.put(0, note={"S": "before"})
    [answer] = table.batch(
        ("UPDATE TABLE SET note = 'after' REMOVE lease_shard WHERE \"bucket\" = 'bucket' AND chunk = 0", [])
    )
    assert "Error" not in answer
    assert table.row(0) == {"note": {"S": "after"}}


def test_a_removed_attribute_takes_the_row_out_of_the_index(table: Table) -> None:
    [index] = of_type("AWS::DynamoDB::Table")["ChunksTable"]["GlobalSecondaryIndexes"]

    def indexed() -> list[str]:
        response = table.client.query(
            TableName=table.name,
            IndexName=index["IndexName"],
            KeyConditionExpression="lease_shard = :shard AND claimable_at <= :before",
            ExpressionAttributeValues={":shard": {"N": "3"}, ":before": {"N": "10"}},
        )
        return [item["chunk"]["N"] for item in response["Items"]]

    for chunk, claimable_at in ((0, "5"), (1, "9"), (2, "11")):
        table.put(chunk, lease_shard={"N": "3"}, claimable_at={"N": claimable_at})
    table.put(3, claimable_at={"N": "1"})
    assert indexed() == ["0", "1"]
    table.batch(("UPDATE TABLE REMOVE lease_shard WHERE \"bucket\" = 'bucket' AND chunk = 0", []))
    assert indexed() == ["1"]


# --- updates ---


@pytest.mark.parametrize(
    "expression", ["SET note = :a REMOVE note", "SET notes.x = :a, notes = :a", "REMOVE notes.x SET notes = :a"]
)
def test_an_update_of_overlapping_paths_is_refused(table: Table, expression: str) -> None:
    table.put(0, note={"S": "before"}, notes={"M": {}})
    with pytest.raises(ClientError) as caught:
        table.update(0, expression, ExpressionAttributeValues={":a": {"S": "after"}})
    code, text = refused(caught)
    assert code == "ValidationException"
    assert "Two document paths overlap with each other" in text


def test_an_update_within_a_map_that_is_not_there_is_refused(table: Table) -> None:
    table.put(0)
    with pytest.raises(ClientError) as caught:
        table.update(0, "SET finished.x = :now", ExpressionAttributeValues={":now": {"N": "1"}})
    code, text = refused(caught)
    assert code == "ValidationException"
    assert text.startswith("The document path provided in the update expression is invalid for update")


def test_an_update_whose_condition_fails_changes_nothing(table: Table) -> None:
    table.put(0, count={"N": "1"})
    with pytest.raises(ClientError) as caught:
        table.update(
            0,
            "ADD #count :one",
            ConditionExpression="#count = :seen",
            ExpressionAttributeNames={"#count": "count"},
            ExpressionAttributeValues={":one": {"N": "1"}, ":seen": {"N": "7"}},
        )
    assert refused(caught) == ("ConditionalCheckFailedException", "The conditional request failed")
    assert table.row(0) == {"count": {"N": "1"}}


def test_an_expression_of_more_than_4_kb_is_refused(table: Table) -> None:
    names = ", ".join(f"a{number:0500} = :a" for number in range(9))
    with pytest.raises(ClientError) as caught:
        table.update(0, f"SET {names}", ExpressionAttributeValues={":a": {"N": "1"}})
    code, text = refused(caught)
    assert code == "ValidationException"
    assert "Expression size has exceeded the maximum allowed size" in text


def test_a_row_of_more_than_400_kb_is_refused(table: Table) -> None:
    with pytest.raises(ClientError) as caught:
        table.put(0, data={"B": bytes(400 * 1024)})
    assert refused(caught) == ("ValidationException", "Item size has exceeded the maximum allowed size")


def test_numbers_are_added_to_a_set_and_taken_out_of_it(table: Table) -> None:
    def numbers(expression: str, *given: int) -> set[str] | None:
        values = {":given": {"NS": [str(number) for number in given]}}
        found = table.update(0, expression, ExpressionAttributeValues=values).get("chunks")
        return set(found["NS"]) if found else None

    assert numbers("ADD chunks :given", 3, 1) == {"1", "3"}
    assert numbers("ADD chunks :given", 1, 20) == {"1", "3", "20"}
    assert numbers("DELETE chunks :given", 1, 3, 7) == {"20"}
    # A set is never empty: the attribute goes with its last number.
    assert numbers("DELETE chunks :given", 20) is None


@pytest.mark.parametrize("numbers", [[], ["1", "1"], ["1", "1.0"]])
def test_a_set_that_is_empty_or_has_a_number_twice_is_refused(table: Table, numbers: list[str]) -> None:
    with pytest.raises(ClientError) as caught:
        table.put(0, chunks={"NS": numbers})
    assert refused(caught)[0] == "ValidationException"


def test_a_time_to_live_is_accepted_and_told(table: Table) -> None:
    [expected] = [
        of_type("AWS::DynamoDB::Table")[name]["TimeToLiveSpecification"]["AttributeName"] for name in ["ChunksTable"]
    ]
    table.client.update_time_to_live(
        TableName=table.name, TimeToLiveSpecification={"AttributeName": expected, "Enabled": True}
    )
    told = table.client.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    assert told["TimeToLiveStatus"] in ("ENABLING", "ENABLED")
    assert told["AttributeName"] == expected


def test_a_row_whose_time_is_over_may_stay_for_a_while_and_is_written_as_any_other(table: Table) -> None:
    table.put(0, expires_at={"N": "1"}, count={"N": "1"})
    table.client.update_time_to_live(
        TableName=table.name, TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True}
    )
    found = table.update(
        0,
        "ADD #count :one",
        ExpressionAttributeNames={"#count": "count"},
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    assert found["count"] == {"N": "2"}


# --- transactions ---


def transaction(table: Table, *chunks: int) -> list[Any]:
    """Writes that each ask for a row to be free."""
    return [
        {
            "Update": {
                "TableName": table.name,
                "Key": table.key(chunk),
                "UpdateExpression": "SET #owner = :me",
                "ConditionExpression": "#owner = :nobody",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": {":me": {"S": "a"}, ":nobody": {"S": ""}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }
        for chunk in chunks
    ]


def test_a_transaction_is_refused_whole_and_says_for_which_write(table: Table) -> None:
    table.put(0, owner={"S": ""})
    table.put(1, owner={"S": "b"})
    with pytest.raises(ClientError) as caught:
        table.client.transact_write_items(TransactItems=transaction(table, 0, 1, 2))
    code, text = refused(caught)
    assert code == "TransactionCanceledException"
    assert "[None, ConditionalCheckFailed, ConditionalCheckFailed]" in text
    reasons = caught.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed", "ConditionalCheckFailed"]
    assert reasons[1]["Item"] == {**table.key(1), "owner": {"S": "b"}}
    assert "Item" not in reasons[2]
    assert table.row(0) == {"owner": {"S": ""}}


def test_a_transaction_with_a_failed_check_writes_nothing(table: Table) -> None:
    table.put(0, owner={"S": ""})
    check: Any = {
        "ConditionCheck": {
            "TableName": table.name,
            "Key": table.key(1),
            "ConditionExpression": "attribute_exists(#bucket)",
            "ExpressionAttributeNames": {"#bucket": "bucket"},
        }
    }
    with pytest.raises(ClientError) as caught:
        table.client.transact_write_items(TransactItems=[check, *transaction(table, 0)])
    reasons = caught.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["ConditionalCheckFailed", "None"]
    assert table.row(0) == {"owner": {"S": ""}}


def test_a_transaction_with_one_row_twice_is_refused(table: Table) -> None:
    table.put(0, owner={"S": ""})
    with pytest.raises(ClientError) as caught:
        table.client.transact_write_items(TransactItems=transaction(table, 0, 0))
    assert refused(caught) == (
        "ValidationException",
        "Transaction request cannot include multiple operations on one item",
    )


# --- reads ---


def test_more_than_100_keys_at_once_are_refused(table: Table) -> None:
    keys = [table.key(chunk) for chunk in range(101)]
    with pytest.raises(ClientError) as caught:
        table.client.batch_get_item(RequestItems={table.name: {"Keys": keys}})
    assert refused(caught)[0] == "ValidationException"


def test_a_key_twice_at_once_is_refused(table: Table) -> None:
    with pytest.raises(ClientError) as caught:
        table.client.batch_get_item(RequestItems={table.name: {"Keys": [table.key(0), table.key(0)]}})
    assert refused(caught) == ("ValidationException", "Provided list of item keys contains duplicates")


def test_a_consistent_read_of_an_index_is_refused(table: Table) -> None:
    with pytest.raises(ClientError) as caught:
        table.client.query(
            TableName=table.name,
            IndexName="leases",
            ConsistentRead=True,
            KeyConditionExpression="lease_shard = :shard",
            ExpressionAttributeValues={":shard": {"N": "3"}},
        )
    assert refused(caught) == (
        "ValidationException",
        "Consistent reads are not supported on global secondary indexes",
    )


def test_pages_of_a_query_hold_a_megabyte(table: Table) -> None:
    for chunk in range(6):
        table.put(chunk, data={"B": bytes(300 * 1024)})
    response = table.client.query(
        TableName=table.name,
        KeyConditionExpression="#bucket = :bucket",
        ExpressionAttributeNames={"#bucket": "bucket"},
        ExpressionAttributeValues={":bucket": {"S": "bucket"}},
        ConsistentRead=True,
    )
    assert 3 <= len(response["Items"]) <= 4
    assert response["LastEvaluatedKey"] == table.key(len(response["Items"]) - 1)
