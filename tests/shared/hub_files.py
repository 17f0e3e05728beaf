"""Data sets as the library `datasets` writes them, made with pyarrow alone."""

import json

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

LABEL = {"label": {"names": ["negative", "positive"], "_type": "ClassLabel"}}


def described(columns, features=LABEL):
    """Return a table whose schema describes its columns."""
    written = json.dumps({"info": {"features": features}})
    return pyarrow.table(columns).replace_schema_metadata({"huggingface": written})


def reviews(count, start=0, hidden=False):
    return described({
        "text": [f"text {i}" for i in range(start, start + count)],
        "label": [-1 if hidden else i % 2 for i in range(start, start + count)],
    })  # fmt: skip


def write_shards(folder, split, tables):
    """Write tables as `train-00000-of-00003.parquet` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, table in enumerate(tables):
        name = f"{split}-{i:05d}-of-{len(tables):05d}.parquet"
        pyarrow.parquet.write_table(table, folder / name)


def save_to_disk(folder, tables):
    """Write tables as `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pyarrow.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def save_splits(folder, **splits):
    """Write tables as `DatasetDict.save_to_disk` does."""
    for name, tables in splits.items():
        save_to_disk(folder / name, tables)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
