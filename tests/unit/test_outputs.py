"""Are the outputs there? Listings answer for most, a HEAD each for the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from snakemake_executor_takeda.outputs import (
    FEWEST_TO_LIST,
    LISTING_PAGE,
    MISSING,
    OutputCheck,
    S3Object,
)
from snakemake_executor_takeda.values import File


class FakeS3:
    """Buckets of keys, listed in S3's order; counts its calls."""

    def __init__(self, **buckets: set[str]) -> None:
        self.buckets = buckets
        self.lists = 0
        self.heads: list[str] = []
        self.forbids_lists = False
        self.breaks = False
        self.version = "null"  # what S3 says where versions were never kept

    def list_objects_v2(self, Bucket, Prefix, MaxKeys, StartAfter=""):
        self.lists += 1
        if self.forbids_lists:
            raise failure("AccessDenied", 403, "ListObjectsV2")
        keys = sorted(k for k in self.buckets[Bucket] if k.startswith(Prefix) and k > StartAfter)
        page = keys[:MaxKeys]
        contents = (
            {"Contents": [{"Key": key, "ETag": f'"of {key}"', "Size": 7} for key in page]}
            if page
            else {}
        )
        return {**contents, "KeyCount": len(page), "IsTruncated": len(keys) > MaxKeys}

    def head_object(self, Bucket, Key):
        self.heads.append(Key)
        if self.breaks:
            raise failure("500", 500, "HeadObject")
        if Key not in self.buckets[Bucket]:
            raise failure("404", 404, "HeadObject")
        return {"ETag": f'"of {Key}"', "ContentLength": 7, "VersionId": self.version}


def failure(code, status, operation):
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


def files(keys, bucket="b"):
    return [File(path=key, uri=f"s3://{bucket}/{key}") for key in keys]


def problems(s3, wanted):
    check = OutputCheck(s3)
    try:
        return check.problems(wanted)
    finally:
        check.close()


def test_an_arrays_outputs_take_a_call_per_thousand():
    keys = {f"made/{n}.txt" for n in range(5000)}
    s3 = FakeS3(b=keys)
    assert problems(s3, files(keys)) == {}
    assert s3.lists <= 5000 / LISTING_PAGE + 1
    assert len(s3.heads) < FEWEST_TO_LIST


def test_what_a_listing_does_not_show_is_asked_for_and_missing():
    keys = {f"made/{n}.txt" for n in range(3000)}
    gone = {"made/7.txt", "made/1500.txt", "made/999.txt"}
    s3 = FakeS3(b=keys - gone)
    found = problems(s3, files(keys))
    assert {file.path: word for file, word in found.items()} == dict.fromkeys(gone, MISSING)
    assert gone <= set(s3.heads)


def test_what_the_look_told_of_an_output_is_known_without_another_call():
    keys = {f"made/{n}.txt" for n in range(30)}
    s3 = FakeS3(b=keys, single={"one.txt"}, versioned={"two.txt"})
    wanted = files(keys) + files(["one.txt"], "single") + files(["none.txt"], "single")
    check = OutputCheck(s3)
    check.problems(wanted)
    s3.version = "v2"
    check.problems(files(["two.txt"], "versioned"))
    check.close()
    calls = s3.lists, len(s3.heads)
    assert check.found("s3://b/made/7.txt") == S3Object("of made/7.txt", None, 7)
    assert check.found("s3://single/one.txt") == S3Object("of one.txt", None, 7)
    assert check.found("s3://versioned/two.txt") == S3Object("of two.txt", "v2", 7)
    assert check.found("s3://single/none.txt") is None
    assert (s3.lists, len(s3.heads)) == calls


@pytest.mark.parametrize("others", [0, 1, 7, 40, 400])
def test_neighbours_change_no_answer(others):
    wanted = {f"s{n:03}/out.bam" for n in range(60)}
    gone = {"s000/out.bam", "s033/out.bam", "s059/out.bam"}
    beside = {f"s{n:03}/{word}{m}" for n in range(60) for m in range(others) for word in ("a", "z")}
    s3 = FakeS3(b=(wanted - gone) | beside)
    assert {file.path for file in problems(s3, files(wanted))} == gone


def test_scattered_outputs_are_not_searched_for_in_endless_listings():
    wanted = {f"s{n:03}/out.bam" for n in range(40)}
    beside = {f"s{n:03}/part-{m:05}" for n in range(40) for m in range(3000)}
    s3 = FakeS3(b=wanted | beside)
    assert problems(s3, files(wanted)) == {}
    assert s3.lists <= len(wanted)
    assert s3.lists + len(s3.heads) <= 2 * len(wanted)


def test_one_output_is_one_call():
    s3 = FakeS3(b={"a"})
    assert problems(s3, files(["a"])) == {}
    assert (s3.lists, s3.heads) == (0, ["a"])


def test_a_directory_exists_where_a_key_lies_below_it():
    directories = [File(path=f"d{n}", uri=f"s3://b/d{n}", is_directory=True) for n in range(20)]
    s3 = FakeS3(b={f"d{n}/x" for n in range(19)} | {"d19-not/x"})
    assert list(problems(s3, directories)) == [directories[19]]


def test_whoever_may_not_list_is_asked_one_by_one():
    keys = [f"{n}" for n in range(50)]
    s3 = FakeS3(b=set(keys[1:]))
    s3.forbids_lists = True
    found = problems(s3, files(keys[1:]))
    assert found == {}
    assert sorted(s3.heads) == sorted(keys[1:])


def test_s3_in_trouble_is_told_and_is_not_missing():
    s3 = FakeS3(b=set())
    s3.breaks = True
    (word,) = problems(s3, files(["a"])).values()
    assert word != MISSING
    assert "500" in word


def test_buckets_are_told_apart():
    keys = [f"{n}" for n in range(50)]
    s3 = FakeS3(one=set(keys), two=set())
    found = problems(s3, files(keys, "one") + files(keys, "two"))
    assert {file.uri for file in found} == {f"s3://two/{key}" for key in keys}


def test_names_of_any_script_and_sign():
    keys = {
        f"{start}{n}{end}"
        for start in ("", "é/", "!", "\ue000")
        for end in ("!", " ", "ü", "~", "\ue000", "𝄞")
        for n in range(9)
    }
    s3 = FakeS3(b=keys)
    assert problems(s3, files(keys)) == {}
    gone = sorted(keys)[::7]
    s3 = FakeS3(b=keys - set(gone))
    assert {file.path for file in problems(s3, files(keys))} == set(gone)


def test_files_outside_s3_are_snakemakes_business():
    assert problems(FakeS3(), [File("a", None), File("b", "http://x/b")]) == {}


def test_an_answer_that_is_none_is_that_outputs_trouble():
    """As of a proxy that puts a page of its own in S3's place."""
    keys = {f"made/{n}.txt" for n in range(2 * FEWEST_TO_LIST)}
    s3 = FakeS3(b=keys)
    real = s3.head_object

    def unreadable(**words):
        raise ResponseParserError("invalid XML received")

    s3.list_objects_v2 = unreadable
    assert problems(s3, files(keys)) == {}
    s3.head_object = lambda Bucket, Key: (
        unreadable() if Key == "made/3.txt" else real(Bucket=Bucket, Key=Key)
    )
    assert problems(s3, files(keys)) == {
        File("made/3.txt", "s3://b/made/3.txt"): "invalid XML received"
    }


def test_an_empty_page_that_says_there_is_more_ends_the_listing():
    keys = {f"made/{n}.txt" for n in range(2 * FEWEST_TO_LIST)}
    s3 = FakeS3(b=keys)
    s3.list_objects_v2 = lambda **words: {"IsTruncated": True}
    assert problems(s3, files(keys)) == {}


def test_a_directory_is_fetched_whole_or_not_at_all(tmp_path):
    """A controller may be killed at any moment, and the next one believes what is there."""
    keys = ["parts/1.txt", "parts/2.txt"]
    s3, place, states = FakeS3(b=set(keys)), tmp_path / "parts", []

    class Pages:
        def paginate(self, **words):
            return [{"Contents": [{"Key": key} for key in keys]}]

    def download(bucket, key, path):
        states.append(sorted(one.name for one in place.glob("*")))
        Path(path).write_text(key)

    s3.get_paginator = lambda operation: Pages()
    s3.download_file = download
    place.mkdir()
    (place / "old.txt").touch()
    left_over = tmp_path / ".parts.takeda/half"
    left_over.mkdir(parents=True)
    check = OutputCheck(s3)
    check.fetch_directory(File(str(place), "s3://b/parts", is_directory=True))
    check.close()
    assert states == [["old.txt"], ["old.txt"]]
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["1.txt", "2.txt", "parts"]
