"""Edits return new graphs, rewire what they should, and refuse what does not fit."""

import pytest

from depthscale import zoo
from depthscale.errors import GraphError
from depthscale.graph import edit, ops

NET = zoo.mlp((8, 6, 6, 3))


def test_replace_changes_one_op_only():
    new = edit.replace(NET, "layer1.act1", ops.Activation("tanh"))
    assert new["layer1.act1"].op == ops.Activation("tanh")
    assert NET["layer1.act1"].op == ops.Activation("relu")
    assert [n.inputs for n in new.nodes] == [n.inputs for n in NET.nodes]


def test_replace_that_does_not_fit_names_the_node():
    with pytest.raises(GraphError, match=r"node 'stage1.block1.add1': Add: .*broadcast"):
        edit.replace(zoo.resnet(18), "stage1.block1.conv2", ops.Conv(63, (3, 3), padding=1))
    with pytest.raises(GraphError, match=r"'layer2.linear1': Conv: .*4 axes.*\(1, 6\)"):
        edit.replace(NET, "layer2.linear1", ops.Conv(3))


def test_insert_and_delete_undo_one_another():
    new = edit.insert(NET, "layer1.act1", "layer1.drop", ops.Dropout(0.1))
    assert new["layer2.linear1"].inputs == ("layer1.drop",)
    assert edit.delete(new, "layer1.drop") == NET


def test_insert_behind_the_output_becomes_the_output():
    new = edit.insert(NET, "head.linear1", "head.softmax", ops.Softmax())
    assert new.outputs == ("head.softmax",)
    assert edit.delete(new, "head.softmax") == NET


def test_insert_on_one_edge_leaves_the_others():
    net = zoo.resnet(18, 10, image_size=32)
    new = edit.insert(net, "stem.act1", "gate", ops.Activation("tanh"), users=("stage1.block1.conv1",))
    assert new["stage1.block1.conv1"].inputs == ("gate",)
    assert "stem.act1" in new["stage1.block1.add1"].inputs
    with pytest.raises(GraphError, match="does not feed"):
        edit.insert(net, "stem.act1", "gate", ops.Activation("tanh"), users=("head.linear1",))


def test_delete_takes_along_what_fed_only_it():
    net = zoo.resnet(18, 10, image_size=32)
    new = edit.delete(net, "stage1.block1.add1")  # its first input is the branch, the skip goes
    assert new["stage1.block1.act2"].inputs == ("stage1.block1.norm2",)
    with pytest.raises(GraphError, match="source of data"):
        edit.delete(net, "input")


def test_delete_that_breaks_shapes_is_refused():
    with pytest.raises(GraphError, match=r"'stage2.block1.shortcut.norm1'|'stage2.block1.add1'"):
        edit.delete(zoo.resnet(18), "stage2.block1.shortcut.conv1")


def test_rename_keeps_the_key():
    new = edit.rename(NET, {"layer1.act1": "layer1.relu", "head.linear1": "out"})
    assert new.outputs == ("out",)
    assert new.key == NET.key
    with pytest.raises(GraphError, match="twice"):
        edit.rename(NET, {"layer1.act1": "layer1.linear1"})
    with pytest.raises(GraphError, match="name of a node, got 'nobody'"):
        edit.rename(NET, {"nobody": "x"})
