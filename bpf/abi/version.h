/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The version of everything in this folder; pins live in .../v<ABI_VERSION>/. */
#pragma once

#define ABI_VERSION 1
