"""TODO exporters"""
