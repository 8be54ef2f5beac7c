"""Tables for the tabletop: what each task is called in words, and what each body of its scenes is.

A body is named by itself or, where it has no name, by the nearest body above it that has one. Bodies that stand in no
table are objects. Ids hold for all tasks, so that data sets of several tasks agree.
"""

from __future__ import annotations

from collections.abc import Mapping

REFERENCE = ("drawer-close", "drawer-open", "window-open", "button-press-topdown", "handle-press")
APART = ("reach", "pick-place")  # reported apart: their goal is a point in the air or on the table that no camera shows

SENTENCES: Mapping[str, tuple[str, str, str]] = {
    "drawer-close": ("close the drawer", "push the drawer shut", "shut the green drawer"),
    "drawer-open": ("open the drawer", "pull the drawer open", "slide the green drawer out by its handle"),
    "window-open": ("open the window", "slide the window open", "push the window to the side by its handle"),
    "button-press-topdown": ("press the button from above", "push the red button down", "press down on the button"),
    "handle-press": ("press the handle down", "push the handle down", "press down on the red handle"),
    "reach": ("reach the goal", "move the hand to the goal", "bring the gripper to the goal position"),
    "pick-place": ("pick up the puck and place it at the goal", "grasp the puck and bring it to the goal")
    + ("lift the puck and carry it to the goal position",),
}
# For the other tasks, from the words of the task's name.
PATTERNS = ("{words}", "do the task {words}", "use the robot arm for {words}")

CLASSES = {
    **{0: "background", 1: "floor", 2: "wall", 3: "table", 4: "arm", 5: "gripper", 6: "object"},
    **{7: "drawer", 8: "window", 9: "button", 10: "handle", 11: "door", 12: "housing"},
}
CLASS_OF_BODY: Mapping[str, str] = {
    **dict.fromkeys(("world",), "floor"),
    **dict.fromkeys(("RetainingWall", "wall"), "wall"),
    **dict.fromkeys(("tablelink",), "table"),
    **dict.fromkeys(("base", "controller_box", "pedestal_feet", "torso", "pedestal", "right_arm_base_link"), "arm"),
    **dict.fromkeys((f"right_l{i}" for i in range(7)), "arm"),
    **dict.fromkeys(("right_l1_2", "head", "screen"), "arm"),
    **dict.fromkeys(("right_hand", "hand", "rightclaw", "rightpad", "leftclaw", "leftpad"), "gripper"),
    **dict.fromkeys(("drawer", "drawercase_link", "drawer_link"), "drawer"),
    **dict.fromkeys(("window", "windowb_a", "windowb_b"), "window"),
    **dict.fromkeys(("button", "cmbutton"), "button"),
    **dict.fromkeys(("handle_link", "lever_link1", "faucet_link2", "lock_link"), "handle"),
    **dict.fromkeys(("doorlockA", "doorlockB", "door_link"), "door"),
    **dict.fromkeys(("buttonbox", "hdlprs", "cm_link", "lever", "faucet_link", "hammerblock", "plug_wall"), "housing"),
}

# Bodies of the surface map, part id = place + 1; 0 is everything that is neither arm nor object.
PARTS = (
    *("controller_box", "pedestal_feet", "torso", "pedestal", "right_arm_base_link"),
    *("right_l0", "head", "right_l1", "right_l2", "right_l3", "right_l4", "right_l5", "right_l6"),
    *("right_hand", "hand", "rightpad", "leftpad", "object"),
    *("drawercase_link", "drawer_link", "window", "windowb_a", "windowb_b", "buttonbox", "button"),
    *("hdlprs", "handle_link", "obj", "mug", "cm_link", "cmbutton", "dial", "doorlockA", "doorlockB", "door_link"),
    *("lock_link", "faucet_link", "faucet_link2", "lever", "lever_link1", "asmbly_peg", "peg", "basketball"),
    *("backboardlink", "hooplink", "objA", "binA", "binB", "box", "top_link", "hammer", "hammerblock", "nail_link"),
    *("puck_channel", "puck_goal", "plug", "plug_wall", "soccer_ball1", "soccer_goal", "stick", "shelf"),
)
WITHOUT_PARTS = ("floor", "wall", "table")

# Points of the skeleton: name -> the body whose frame it is. A joint is shown by its body and the one that carries it,
# or by those named here. The hand's is the point whose place is observation.state: in the air above the fingers.
JOINTS: Mapping[str, str] = {
    "base": "right_arm_base_link",
    **{f"l{i}": f"right_l{i}" for i in range(7)},
    **{"hand": "hand", "right_finger": "rightpad", "left_finger": "leftpad"},
}
SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "base": ("right_arm_base_link", "pedestal", "right_l0"),
    "l6": ("right_l5", "right_l6", "right_hand"),
    "hand": (),
}
LIMBS = (
    *(("base", "l0"), ("l0", "l1"), ("l1", "l2"), ("l2", "l3"), ("l3", "l4"), ("l4", "l5"), ("l5", "l6")),
    *(("l6", "hand"), ("hand", "right_finger"), ("hand", "left_finger")),
)


def sentences(task: str) -> tuple[str, str, str]:
    """The three sentences of a task."""
    words = task.replace("-", " ")
    first, second, third = SENTENCES.get(task) or tuple(pattern.format(words=words) for pattern in PATTERNS)
    return first, second, third


def class_of(body: str) -> str:
    """The class of a named body; what stands in no table is an object."""
    return CLASS_OF_BODY.get(body, "object")


def part_of(body: str) -> int:
    """The part id of a named body, 0 for floor, walls and table."""
    if class_of(body) in WITHOUT_PARTS:
        return 0
    return PARTS.index(body if body in PARTS else "object") + 1


def instance_of(body: str) -> int:
    """The instance id of a named body: its class for floor, walls, table, arm and gripper; one for each other part."""
    name = class_of(body)
    whole = (*WITHOUT_PARTS, "arm", "gripper")
    return whole.index(name) + 1 if name in whole else len(whole) + part_of(body)
