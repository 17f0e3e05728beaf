"""TODO tasks"""
