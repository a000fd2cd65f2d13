"""Zip archives of many files whose length and layout are known before the first byte, so that downloads support ranges and resume."""
