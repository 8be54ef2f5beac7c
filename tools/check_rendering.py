"""Whether off-screen rendering works here: opens an EGL display as MuJoCo does; exits 1 if none opens."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT
INSTALL = "on Debian and Ubuntu: apt-get install --no-install-recommends libegl1 libgl1-mesa-dri"


def function(egl: ctypes.CDLL, name: str, *arguments: type) -> ctypes._CFuncPtr | None:
    """An EGL extension function by name; None where the driver lacks it. It returns an address or a flag."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(name.encode())
    return ctypes.CFUNCTYPE(ctypes.c_void_p, *arguments)(address) if address else None


def displays(egl: ctypes.CDLL) -> list[int]:
    """Addresses of the displays to try: one for each device, then the default one."""
    found = []
    query = function(egl, "eglQueryDevicesEXT", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    get = function(egl, "eglGetPlatformDisplayEXT", ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
    if query and get:
        devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
        query(len(devices), devices, ctypes.byref(count))
        found = [get(PLATFORM_DEVICE, devices[i], None) for i in range(count.value)]
    egl.eglGetDisplay.restype = ctypes.c_void_p
    egl.eglGetDisplay.argtypes = [ctypes.c_void_p]
    return [address for address in [*found, egl.eglGetDisplay(None)] if address]


def version(egl: ctypes.CDLL, display: int) -> str | None:
    """The EGL version of a display that can be initialised, else None."""
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    egl.eglTerminate.argtypes = [ctypes.c_void_p]
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    if not egl.eglInitialize(display, ctypes.byref(major), ctypes.byref(minor)):
        return None
    egl.eglTerminate(display)
    return f"{major.value}.{minor.value}"


def main() -> int:
    name = ctypes.util.find_library("EGL") or "libEGL.so.1"
    try:
        egl = ctypes.CDLL(name)
    except OSError:
        print(f"off-screen rendering: no EGL library found; simulators will need it ({INSTALL})")
        return 1
    for display in displays(egl):
        found = version(egl, display)
        if found:
            print(f"off-screen rendering: works (EGL {found})")
            return 0
    print(f"off-screen rendering: EGL is there but no display opens; simulators will need one ({INSTALL})")
    return 1


if __name__ == "__main__":
    sys.exit(main())
