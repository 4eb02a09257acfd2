/* CO-RE subset */
