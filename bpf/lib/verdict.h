/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What a tcx program may answer besides a redirect; numbers of the kernel's tcx_action_base. No maps. */
#pragma once

#define TC_ACT_OK   0
#define TC_ACT_SHOT 2
